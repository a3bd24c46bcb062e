//! Variables and placeholders of other systems, which mean nothing in Heliox. If nobody reports
//! them, `$JOB_COMPLETION_INDEX` is empty and `{{item}}` reaches the program as it is.
//!
//! Only names that are unique to another system are listed: no program has its own variable
//! `NOMAD_ALLOC_INDEX`.

/// A variable that another system sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// The system.
    pub(super) system: &'static str,
    /// The Heliox variable to use instead, if there is one: `$HELIOX_INDEX`.
    pub(super) ours: Option<String>,
}

/// Variables that other systems set, each with the Heliox variable of the same meaning; an empty
/// text where there is none. Variables that only their command line tools read, such as
/// `NOMAD_ADDR`, are not listed: a program may well be given those.
const VARIABLES: [(&str, &str, &str); 31] = [
    ("JOB_COMPLETION_INDEX", "Kubernetes", "HELIOX_INDEX"),
    ("NOMAD_ALLOC_INDEX", "Nomad", "HELIOX_INDEX"),
    ("NOMAD_ALLOC_NAME", "Nomad", "HELIOX_TASK"),
    ("NOMAD_TASK_NAME", "Nomad", "HELIOX_TASK"),
    ("NOMAD_GROUP_NAME", "Nomad", "HELIOX_JOB"),
    ("NOMAD_JOB_NAME", "Nomad", "HELIOX_JOB"),
    ("NOMAD_ALLOC_ID", "Nomad", ""),
    ("NOMAD_ALLOC_DIR", "Nomad", ""),
    ("NOMAD_TASK_DIR", "Nomad", ""),
    ("NOMAD_SECRETS_DIR", "Nomad", ""),
    ("NOMAD_CPU_LIMIT", "Nomad", ""),
    ("NOMAD_MEMORY_LIMIT", "Nomad", ""),
    ("SLURM_ARRAY_TASK_ID", "Slurm", "HELIOX_INDEX"),
    ("SLURM_ARRAY_TASK_COUNT", "Slurm", "HELIOX_COUNT"),
    ("SLURM_PROCID", "Slurm", "HELIOX_INDEX"),
    ("SLURM_NTASKS", "Slurm", "HELIOX_COUNT"),
    ("SLURM_JOB_NAME", "Slurm", "HELIOX_JOB"),
    ("SLURM_JOB_ID", "Slurm", ""),
    ("SLURM_SUBMIT_DIR", "Slurm", ""),
    ("SLURMD_NODENAME", "Slurm", "HELIOX_NODE"),
    ("SGE_TASK_ID", "Grid Engine", "HELIOX_INDEX"),
    ("PBS_ARRAY_INDEX", "PBS", "HELIOX_INDEX"),
    ("PBS_JOBID", "PBS", ""),
    ("PBS_O_WORKDIR", "PBS", ""),
    ("LSB_JOBINDEX", "LSF", "HELIOX_INDEX"),
    ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS Batch", "HELIOX_INDEX"),
    ("AWS_BATCH_JOB_ATTEMPT", "AWS Batch", "HELIOX_ATTEMPT"),
    ("AWS_BATCH_JOB_ID", "AWS Batch", ""),
    ("CLOUD_RUN_TASK_INDEX", "Cloud Run", "HELIOX_INDEX"),
    ("CLOUD_RUN_TASK_COUNT", "Cloud Run", "HELIOX_COUNT"),
    ("CLOUD_RUN_TASK_ATTEMPT", "Cloud Run", "HELIOX_ATTEMPT"),
];
/// Prefixes of Nomad's variables that end in the name of a port, and the Heliox prefixes.
const PORTS: [(&str, &str); 6] = [
    ("NOMAD_PORT_", "HELIOX_PORT_"),
    ("NOMAD_HOST_PORT_", "HELIOX_PORT_"),
    ("NOMAD_ADDR_", "HELIOX_ADDR_"),
    ("NOMAD_HOST_ADDR_", "HELIOX_ADDR_"),
    ("NOMAD_IP_", "HELIOX_ADDR_"),
    ("NOMAD_HOST_IP_", "HELIOX_ADDR_"),
];
/// Prefix of Nomad's variables that end in the name of a parameter.
const META: &str = "NOMAD_META_";

/// What a variable of this name is, if another system sets it.
pub(super) fn variable(name: &str) -> Option<Variable> {
    if let Some((_, system, ours)) = VARIABLES.iter().find(|(known, ..)| *known == name) {
        let ours = (!ours.is_empty()).then(|| format!("${ours}"));
        return Some(Variable { system, ours });
    }
    let rest = |beginning: &str| name.strip_prefix(beginning).filter(|rest| !rest.is_empty());
    let port = PORTS
        .iter()
        .find_map(|(theirs, ours)| Some(format!("${ours}{}", rest(theirs)?.to_ascii_uppercase())));
    let ours = port.or_else(|| Some(format!("$(params.{})", rest(META)?)))?;
    Some(Variable { system: "Nomad", ours: Some(ours) })
}

/// Names that other systems write in double braces, or in `${}` with dots, and the Heliox names.
const NAMES: [(&str, &str); 12] = [
    ("item", "task.item"),
    ("index", "task.index"),
    ("pod.name", "task.name"),
    ("retries", "task.attempt"),
    ("workflow.name", "run.name"),
    ("run_id", "run.name"),
    ("ds", "run.date"),
    (".Task.Name", "task.name"),
    (".Task.Slot", "task.index"),
    (".Node.Hostname", "node.name"),
    ("node.unique.name", "node.name"),
    ("node.unique.id", "node.name"),
];
/// Prefixes of such names, and the Heliox prefixes.
const BEGINNINGS: [(&str, &str); 7] = [
    ("item.", "task.item."),
    ("inputs.parameters.", "params."),
    ("workflow.parameters.", "params."),
    ("parameters.", "params."),
    ("inputs.", "params."),
    ("params.", "params."),
    ("param.", "params."),
];

/// The Heliox name for a name of another system.
pub(super) fn name(theirs: &str) -> Option<String> {
    if let Some((_, ours)) = NAMES.iter().find(|(known, _)| *known == theirs) {
        return Some((*ours).to_owned());
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    BEGINNINGS.iter().find_map(|(beginning, ours)| {
        let rest = theirs.strip_prefix(beginning)?;
        let is_name = !rest.is_empty() && rest.chars().all(legal);
        is_name.then(|| format!("{ours}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::names::{ENVIRONMENT, OF_RUN, OF_TASK};
    use super::*;

    #[test]
    fn every_name_of_ours_that_is_pointed_to_is_one() {
        for (theirs, _, ours) in VARIABLES.iter().filter(|(.., ours)| !ours.is_empty()) {
            assert!(ENVIRONMENT.iter().any(|known| known.name == *ours), "{theirs}: {ours}");
        }
        for (theirs, ours) in NAMES {
            let is_known = OF_RUN.iter().chain(&OF_TASK).any(|known| known.name == ours);
            assert!(is_known, "{theirs}: {ours}");
        }
    }
}
