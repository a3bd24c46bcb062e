//! What commands look up beside what was asked for.

use crate::server::{Server, nothing};

/// What was asked for is there: that more cannot be told is no failure.
#[tokio::test]
async fn nothing_found_is_no_failure_where_the_namespace_cannot_be_looked_up() {
    let server = Server::start(nothing).await;
    server.refuse("/api/v1/namespaces/default");
    server.refuse("/apis/heliox.dev/v1/namespaces/default/jobs/a");
    for (line, note) in [
        ("get tasks", "No tasks found in namespace default.\n"),
        ("get events", "No events found in namespace default.\n"),
        ("top tasks", "No running tasks in namespace default.\n"),
        ("get tasks --job a", "No tasks found in namespace default.\n"),
    ] {
        let said = server.run(line).await;
        assert_eq!((said.code, said.err.as_str()), (0, note), "{line}: {said:?}");
    }
}
