//! `hctl deploy`: writes a Service and applies it.

use api::manifest;

use super::apply;
use crate::connection::Connection;
use crate::deploy::{self, Deploy};
use crate::failure::Failure;
use crate::format::Format;
use crate::{document, terminal};

pub(super) async fn deploy(connection: &Connection, args: Deploy) -> Result<(), Failure> {
    let object = deploy::manifest(&args, &connection.namespace);
    let text = document::yaml(&object)?;
    let documents = manifest::read("hctl deploy", text.as_bytes());
    let documents = documents.map_err(|problems| {
        let message = "this is no service that could be applied";
        Failure { problems, ..Failure::usage(message) }
    })?;
    if args.dry_run && connection.format.is_document() {
        return match connection.format {
            Format::Json => terminal::print(&document::json_text(&object)?),
            Format::Yaml | Format::Table | Format::Wide | Format::Name => terminal::print(&text),
        };
    }
    let how = apply::How { is_dry_run: args.dry_run, is_waiting: args.wait && !args.dry_run };
    apply::documents(connection, documents, how).await
}
