//! `hctl version`.

use serde_json::json;

use crate::connection::{Connection, VERSION_PATH};
use crate::failure::Failure;
use crate::format::Format;
use crate::output::Columns;
use crate::{document, terminal};

pub(super) async fn version(connection: &Connection) -> Result<(), Failure> {
    let ours = format!("v{}", env!("CARGO_PKG_VERSION"));
    let is_text = matches!(connection.format, Format::Table | Format::Wide | Format::Name);
    if is_text {
        terminal::print_line(&format!("client  {ours}"))?;
    }
    let answer = connection.read(VERSION_PATH).await?;
    let theirs = answer["gitVersion"].as_str().unwrap_or("unknown").to_owned();
    let both = json!({ "client": ours, "server": theirs, "url": connection.server });
    match connection.format {
        Format::Table | Format::Wide | Format::Name => {
            let row = ["server".to_owned(), theirs.clone(), connection.server.clone()];
            terminal::print(&Columns::default().lines([row.as_slice()]))?;
        }
        Format::Json => terminal::print(&document::json_text(&both)?)?,
        Format::Yaml => terminal::print(&document::yaml(&both)?)?,
    }
    if theirs != ours {
        terminal::note(&format!(
            "hctl is {ours} and the server is {theirs}: use the same version of both"
        ));
    }
    Ok(())
}
