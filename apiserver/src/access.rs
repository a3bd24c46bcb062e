//! The one point that every request passes, and every operation of a batch, which is a request of its own.
//!
//! # Invariants
//!
//! * Nothing is done for who was not let in: a handler is given what [`Gate::enter`] gave, and an intent
//!   cannot be made without. There is no other way to make an [`Allowed`].

use std::fmt;

use api::status::Refusal;
#[cfg(test)]
use api::status::Why;
use api::verb::{Subresource, Verb};
use api::{KindId, ObjectKey};

use crate::requester::Requester;

/// What somebody asks to do, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask<'a> {
    pub(crate) verb: Verb,
    pub(crate) what: What<'a>,
}

/// To what something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// Objects of a kind, one of them, or a part of one.
    Objects {
        kind: KindId,
        subresource: Option<Subresource>,
        /// Empty for cluster kinds, and for all namespaces.
        namespace: &'a str,
        /// Nothing for all objects.
        name: Option<&'a str>,
    },
    /// What is no object, as its path is known.
    Path(&'static str),
}

/// That somebody may do what they asked for.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    requester: Requester,
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Gate {
    /// Everybody may do everything: nobody is asked yet who they are.
    #[default]
    Open,
    /// Nobody may do anything but ask for this path.
    #[cfg(test)]
    ClosedBut(&'static str),
}

impl Gate {
    /// Lets in who may do what they ask for. Here stand, for single requests and for operations of
    /// batches alike, access rules, bounds for each requester and the audit trail, once there are any.
    pub(crate) fn enter(self, requester: &Requester, ask: Ask<'_>) -> Result<Allowed, Refusal> {
        self.allow(requester, ask)?;
        Ok(Allowed { requester: requester.clone() })
    }

    #[cfg_attr(
        not(test),
        expect(clippy::unnecessary_wraps, reason = "the rules that refuse are still to come")
    )]
    fn allow(self, requester: &Requester, ask: Ask<'_>) -> Result<(), Refusal> {
        let _rules_to_come = (requester, ask);
        match self {
            Gate::Open => Ok(()),
            #[cfg(test)]
            Gate::ClosedBut(path) if ask.what == What::Path(path) => Ok(()),
            #[cfg(test)]
            Gate::ClosedBut(_) => {
                Err(Refusal::new(Why::Forbidden, format!("{requester} may not {ask}")))
            }
        }
    }
}

impl Allowed {
    /// Who was let in.
    pub(crate) fn requester(&self) -> &Requester {
        &self.requester
    }
}

impl<'a> Ask<'a> {
    /// Something is to be done to one object, or to a part of it.
    pub(crate) fn of(
        verb: Verb,
        (kind, subresource): (KindId, Option<Subresource>),
        key: &'a ObjectKey,
    ) -> Self {
        let (namespace, name) = (key.namespace.as_str(), Some(key.name.as_str()));
        Self { verb, what: What::Objects { kind, subresource, namespace, name } }
    }
}

impl fmt::Display for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.word(), self.what)
    }
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, subresource, namespace, name) = match self {
            What::Objects { kind, subresource, namespace, name } => {
                (kind, subresource, namespace, name)
            }
            What::Path(path) => return f.write_str(path),
        };
        f.write_str(kind.info().plural)?;
        if let Some(subresource) = subresource {
            write!(f, "/{}", subresource.word())?;
        }
        if let Some(name) = name {
            write!(f, " {name:?}")?;
        }
        if namespace.is_empty() { Ok(()) } else { write!(f, " in namespace {namespace:?}") }
    }
}
