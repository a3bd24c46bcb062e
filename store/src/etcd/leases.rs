//! Node leases, which are leases of etcd that are renewed many at a time.

use std::time::Duration;

use etcd_client::{Client, Error};
use futures_util::future::{join, join_all};

use crate::etcd::Remote;
use crate::etcd::format::signed;
use crate::etcd::members::Trouble;
use crate::{LeaseId, ReadError};

/// How many streams a call uses for renewals. A member that is not the leader asks the leader about
/// the leases of a stream one after another.
const STREAMS_MAX: usize = 8;
/// For how many leases a further stream pays off.
const STREAM_LEASES_MIN: usize = 64;

impl Remote {
    pub(crate) async fn grant_lease(&self, ttl: Duration) -> Result<LeaseId, ReadError> {
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        // etcd accepts no larger value.
        let seconds = signed(whole).unwrap_or(i64::MAX).clamp(1, 9_000_000_000);
        // If the answer is lost, a lease without keys remains, which expires by itself.
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

/// Renews leases over one stream. Returns for each whether it existed.
async fn renew_in_turn(client: Client, leases: Vec<LeaseId>) -> Result<Vec<bool>, Error> {
    let mut there = Vec::with_capacity(leases.len());
    let mut waiting = leases.into_iter().map(|LeaseId(lease)| signed(lease).unwrap_or(0));
    // The client library opens a stream with a lease that exists, and returns the result for it.
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
            // If the stream breaks, the answers will show it.
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

/// An empty request, whose type the client library does not export.
fn default_for<T: Default>(_: &tokio::sync::mpsc::Sender<T>) -> T {
    T::default()
}
