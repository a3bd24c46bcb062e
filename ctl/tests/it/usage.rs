//! What is said of a command line that makes no sense.

use crate::server::{Server, nothing};

/// The variables say what is meant where nothing is typed: nobody has to type it.
#[tokio::test]
async fn a_usage_line_does_not_ask_for_what_the_environment_says() {
    let server = Server::start(nothing).await;
    for line in ["logs", "wait --for ready", "get", "delete", "run"] {
        let mut command = server.hctl(line);
        let said =
            crate::server::said(command.env("HELIOX_NAMESPACE", "team").output().await.unwrap());
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.err.contains(&format!("Usage: hctl {}", line.split(' ').next().unwrap())),
            "{said:?}"
        );
        assert!(!said.err.contains("--server <"), "{said:?}");
        assert!(!said.err.contains("--namespace <"), "{said:?}");
    }
    let said = server.run("run w day=1 q=a,b").await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("hint: write hctl run w -p day=1 -p q=a,b"), "{said:?}");
    assert_eq!(server.writes(), [""; 0]);
}
