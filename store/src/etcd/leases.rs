//! Node leases: etcd's own, renewed many at a time.

use std::time::Duration;

use etcd_client::{Client, Error};
use futures_util::future::{join, join_all};

use crate::etcd::Remote;
use crate::etcd::format::signed;
use crate::etcd::members::Trouble;
use crate::{LeaseId, ReadError};

/// Streams over which one call renews: a member that is not the leader asks the leader for one
/// lease of a stream after the other.
const STREAMS_MAX: usize = 8;
/// Leases for which another stream is worth its while.
const STREAM_LEASES_MIN: usize = 64;

impl Remote {
    pub(crate) async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, ReadError> {
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        // etcd takes no more than this.
        let seconds = signed(whole).unwrap_or(i64::MAX).clamp(1, 9_000_000_000);
        // Where the answer is lost, so is a lease without keys, which goes by itself.
        let ask = |mut client: Client| async move { client.lease_grant(seconds, None).await };
        let answer = self.members.call_patiently(ask).await?;
        self.members.learn(answer.header())?;
        Ok(LeaseId(u64::try_from(answer.id()).expect("etcd's lease ids are positive")))
    }

    pub(crate) async fn renew_leases(&self, leases: Vec<LeaseId>) -> Result<Vec<bool>, ReadError> {
        let each = leases.len().div_ceil(STREAMS_MAX).max(STREAM_LEASES_MIN);
        let renewals = leases.chunks(each).map(|leases| {
            self.members.call_patiently(|client| renew_in_turn(client, leases.to_vec()))
        });
        let mut all = Vec::with_capacity(leases.len());
        for there in join_all(renewals).await {
            all.extend(there?);
        }
        Ok(all)
    }

    pub(crate) async fn revoke_lease(&self, lease: LeaseId) -> Result<(), ReadError> {
        let Some(id) = signed(lease.0).filter(|id| *id > 0) else {
            return Ok(());
        };
        let ask = |mut client: Client| async move { client.lease_revoke(id).await };
        match self.members.call_patiently(ask).await {
            Ok(answer) => {
                self.members.learn(answer.header())?;
                Ok(())
            }
            Err(Trouble::NoLease) => Ok(()),
            Err(trouble) => Err(trouble.into()),
        }
    }
}

/// Renews over one stream; for each, whether it was there.
async fn renew_in_turn(client: Client, leases: Vec<LeaseId>) -> Result<Vec<bool>, Error> {
    let mut there = Vec::with_capacity(leases.len());
    let mut waiting = leases.into_iter().map(|LeaseId(lease)| signed(lease).unwrap_or(0));
    // The client opens a stream with a lease that is there, and tells what came of it.
    let (keeper, mut answers) = loop {
        let Some(first) = waiting.next() else {
            return Ok(there);
        };
        match client.lease_client().keep_alive(first).await {
            Ok(opened) => {
                there.push(true);
                break opened;
            }
            Err(error) if is_gone(&error) => there.push(false),
            Err(error) => return Err(error),
        }
    };
    let count = waiting.len();
    let send = async {
        for lease in waiting {
            let mut request = default_for(&keeper.sender);
            request.id = lease;
            // The answers tell if the stream is cut off.
            if keeper.sender.send(request).await.is_err() {
                return;
            }
        }
    };
    let receive = async {
        for _ in 0..count {
            let answer = answers.message().await?;
            let answer =
                answer.ok_or_else(|| Error::LeaseKeepAliveError("the stream ended".to_owned()))?;
            there.push(answer.ttl() > 0);
        }
        Ok(there)
    };
    join(send, receive).await.1
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::LeaseKeepAliveError(why) if why.contains("not found"))
}

/// An empty request of the type that the client keeps to itself.
fn default_for<T: Default>(_: &tokio::sync::mpsc::Sender<T>) -> T {
    T::default()
}
