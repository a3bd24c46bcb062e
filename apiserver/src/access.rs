//! The one point that every request passes. Every operation of a batch passes it as a request of
//! its own.
//!
//! # Invariants
//!
//! * Nothing is done for a requester who was not let in: handlers take the [`Allowed`] that
//!   [`Gate::enter`] returns, and an intent cannot be made without one. Nothing else makes an
//!   [`Allowed`].

use std::fmt;

use api::status::Refusal;
#[cfg(test)]
use api::status::Why;
use api::verb::{Subresource, Verb};
use api::{KindId, ObjectKey};

use crate::requester::Requester;

/// What a request wants to do, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask<'a> {
    pub(crate) verb: Verb,
    pub(crate) what: What<'a>,
}

/// What a request acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// All objects of a kind, one of them, or a subresource of one.
    Objects {
        kind: KindId,
        subresource: Option<Subresource>,
        /// Empty for cluster-wide kinds, and for all namespaces.
        namespace: &'a str,
        /// `None` for all objects.
        name: Option<&'a str>,
    },
    /// Something other than an object, named by its path.
    Path(&'static str),
}

/// Proof that a requester may do what it asked for.
#[derive(Debug, Clone)]
pub(crate) struct Allowed {
    requester: Requester,
}

/// Decides who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Gate {
    /// Everybody may do everything, since requesters do not authenticate yet.
    #[default]
    Open,
    /// Nobody may do anything except ask for this path.
    #[cfg(test)]
    ClosedBut(&'static str),
    /// Everybody may do everything but the members of this group.
    #[cfg(test)]
    ClosedTo(&'static str),
}

impl Gate {
    /// Lets in a requester who may do what it asks for. This is the place for access rules, rate
    /// limits per requester and the audit trail, for single requests and for operations of batches
    /// alike.
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
            Gate::ClosedTo(group) if !requester.who().groups.iter().any(|it| it == group) => Ok(()),
            #[cfg(test)]
            Gate::ClosedBut(_) | Gate::ClosedTo(_) => {
                Err(Refusal::new(Why::Forbidden, format!("{requester} may not {ask}")))
            }
        }
    }
}

impl Allowed {
    /// The requester that was let in. Where another apiserver asks, this is the person for whom it
    /// does.
    pub(crate) fn requester(&self) -> &Requester {
        &self.requester
    }
}

impl<'a> Ask<'a> {
    /// A request that acts on one object, or on a subresource of it.
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
