//! `heliox restore`: fills an empty store from a backup.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use apiserver::backup::{Restore, RestoreError, Summary};
use base::Tasks;
use store::Store;

use crate::args::RestoreArgs;
use crate::backup::{check, open, say, shown};
use crate::control_plane::Common;

/// Restores a backup and prints what to do next.
pub async fn run(args: RestoreArgs, common: &Common) -> Result<()> {
    let summary = check(&args.file)?;
    say(&format!("{}: {}", args.file.display(), shown(&summary)));
    let storage = Tasks::new("store");
    let store = args.etcd.open_or(args.data_dir.as_deref(), &common.rng, &storage).await?;
    let restored = restore(&args.file, &summary, &*store, common).await;
    storage.stop().await;
    let cluster = restored.map_err(|error| {
        let hint = error.downcast_ref().and_then(|error| next_step(error, &args));
        let hint = hint.map(|hint| format!(". {hint}")).unwrap_or_default();
        anyhow!("cannot restore {}: {error:#}{hint}", args.file.display())
    })?;
    say(&format!(
        "restored cluster {} (epoch {}). Start its servers now. Agents reconnect, but start and stop \
         nothing until you run `hctl cluster confirm`",
        cluster.id, cluster.epoch
    ));
    Ok(())
}

async fn restore(
    file: &Path,
    summary: &Summary,
    store: &dyn Store,
    common: &Common,
) -> Result<api::cluster::Cluster> {
    let outside = (common.clock.now(), &common.rng);
    let mut restore = Restore::begin(store, summary, outside).await?;
    let mut reader = open(file)?;
    while let Some((key, value)) = reader.next_record()? {
        restore.put(&key, value).await?;
    }
    ensure!(
        reader.summary().as_ref() == Some(summary),
        "the file was changed while it was being restored"
    );
    Ok(restore.finish().await?)
}

/// What to do if the store is not as required.
fn next_step(error: &RestoreError, args: &RestoreArgs) -> Option<String> {
    let place = match &args.data_dir {
        Some(dir) => {
            format!("Name a directory that does not exist yet instead of {}", dir.display())
        }
        None => {
            "To discard what the store holds, stop every Heliox process that uses it, then run \
                 `etcdctl del --prefix /heliox/`"
                .to_owned()
        }
    };
    match error {
        RestoreError::NotEmpty(_) | RestoreError::Unfinished(_) => Some(place),
        RestoreError::Record { .. } | RestoreError::Store(_) => None,
    }
}
