//! Whether an apiserver can do its work now, in words: what `/readyz` says.

use std::time::Duration;

use base::ErrorChain;
use store::Revision;
use tokio::time::timeout;

use crate::Server;

/// How long the store may take to answer the question whether it works. Who asks, such as a load
/// balancer, waits no longer than a few seconds.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why this apiserver cannot do its work now; nothing if it can.
pub(crate) async fn of(server: &Server) -> Option<String> {
    if server.cache.revision() == Revision::default() {
        let filling = "not ready: the watch cache is still being filled\n".to_owned();
        return Some(filling + &server.health.not_ready().unwrap_or_default());
    }
    // The question goes to the store itself: what is remembered of it says nothing of now. An answer
    // that the cache does not come to is no use to those who read.
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
