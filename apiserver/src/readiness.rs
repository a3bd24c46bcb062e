//! Whether an apiserver can do its work: the answer of `/readyz`.

use std::time::Duration;

use base::ErrorChain;
use store::Revision;
use tokio::time::timeout;

use crate::Server;

/// How long the store may take to show that it works. Load balancers and other callers wait no
/// longer than a few seconds.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why this apiserver cannot do its work now; `None` if it can.
pub(crate) async fn of(server: &Server) -> Option<String> {
    if server.cache.revision() == Revision::default() {
        let filling = "not ready: the watch cache is still being filled\n".to_owned();
        return Some(filling + &server.health.not_ready().unwrap_or_default());
    }
    // The store itself is asked, since an earlier success says nothing about now. If the cache does
    // not reach the revision that the store answers with, reads do not work either.
    let asked = timeout(STORE_TIMEOUT, server.store.revision()).await;
    match asked {
        Ok(Ok(revision)) => match timeout(STORE_TIMEOUT, server.cache.reached(revision)).await {
            Ok(()) => server.health.not_ready(),
            Err(_elapsed) => {
                let waited = STORE_TIMEOUT.as_secs();
                let behind = format!(
                    "not ready: the watch cache has been behind the store for {waited} s\n"
                );
                Some(behind + &server.health.not_ready().unwrap_or_default())
            }
        },
        Ok(Err(error)) => Some(format!("not ready: the store: {}\n", ErrorChain(&error))),
        Err(_elapsed) => {
            let waited = STORE_TIMEOUT.as_secs();
            Some(format!("not ready: the store did not answer within {waited} s\n"))
        }
    }
}
