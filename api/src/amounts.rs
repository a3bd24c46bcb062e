//! Quantities as manifests write them (`500m`, `64Mi`) and amounts of resources as Heliox counts
//! them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::violation::nearest;

/// The resource that is counted in thousandths of a core.
pub const CPU: &str = "cpu";
/// The resource that is counted in bytes.
pub const MEMORY: &str = "memory";
/// The resource that is counted in graphics processors.
pub const GPU: &str = "gpu";
/// The limit on memory and swap together, in bytes.
pub const MEMORY_SWAP: &str = "memory-swap";
/// The limit on the number of processes and threads.
pub const PIDS: &str = "pids";
/// Resources that are limited and that nodes do not count, so that nothing is reserved of them.
pub const LIMITS_ONLY: [&str; 2] = [MEMORY_SWAP, PIDS];

/// Largest amount of cpu, in thousandths of a core: 100,000 cores.
const CPU_MILLI_MAX: u64 = 100_000_000;
/// Largest amount of memory, in bytes: 1 PiB.
const MEMORY_BYTES_MAX: u64 = 1 << 50;
/// Largest amount of any other resource.
const AMOUNT_MAX: u64 = 1_000_000_000_000;

/// The known resource that `name` was probably meant to be, where `name` is not known itself.
/// Resources may have any name, so only a name that is very near to a known one is taken for a
/// typing error: `gpu` is not.
pub fn meant(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    if name == CPU || name == MEMORY {
        return None;
    }
    match lower.as_str() {
        "cpu" | "cpus" | "cup" | "pcu" | "cpuu" | "ccpu" | "cppu" | "core" | "cores" => Some(CPU),
        "mem" | "ram" => Some(MEMORY),
        // Only names of nearly the same length are typing errors: `gpu-memory` is a resource of its
        // own.
        other if other.starts_with(['m', 'e']) && other.len().abs_diff(MEMORY.len()) <= 2 => {
            nearest(other, [MEMORY])
        }
        _ => None,
    }
}

/// Why `quantity` of `resource` is an amount that no node can have, with what may have been meant;
/// nothing if it is a possible amount.
pub fn problem(resource: &str, quantity: &Quantity) -> Option<(String, Option<String>)> {
    let milli = quantity.milli();
    if resource != CPU && !milli.is_multiple_of(1000) {
        let text = quantity.to_string();
        let hint = text.strip_suffix('m').map(|number| format!("did you mean {number}Mi?"));
        let memory = resource == MEMORY || resource == MEMORY_SWAP;
        let of = if memory { " of bytes" } else { "" };
        let why = format!("{quantity} is not a whole number{of}");
        return Some((why, hint.filter(|_| memory)));
    }
    let (amount, max) = match resource {
        CPU => (milli, CPU_MILLI_MAX),
        MEMORY | MEMORY_SWAP => (quantity.whole(), MEMORY_BYTES_MAX),
        _ => (quantity.whole(), AMOUNT_MAX),
    };
    (amount > max).then(|| (format!("{quantity} is more than any node can have"), None))
}

/// How much of each resource, by its name: cpu in thousandths of a core, memory in bytes, all else
/// in whole units.
pub type Amounts = BTreeMap<String, u64>;

/// A number with a unit, as Kubernetes writes it. It keeps the text it was read from, so that a
/// manifest is shown as written; two quantities are equal if their values are.
#[derive(Debug, Clone)]
pub struct Quantity {
    text: String,
    /// The value in thousandths.
    milli: u64,
}

/// The text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity; write for example 2, 500m, 64Mi or 1.5Gi")]
pub struct NotAQuantity(String);

impl Quantity {
    /// A number of whole units.
    pub fn units(units: u64) -> Self {
        Self { text: units.to_string(), milli: units.saturating_mul(1000) }
    }

    /// The value in thousandths.
    pub fn milli(&self) -> u64 {
        self.milli
    }

    /// The value in one canonical form, the same for every text that means it: in thousandths where
    /// those are needed, else in the largest binary unit that divides it.
    pub fn usual(&self) -> String {
        if !self.milli.is_multiple_of(1000) {
            return format!("{}m", self.milli);
        }
        let units = self.milli / 1000;
        let scales = [(1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let fits = |(scale, _): &(u64, _)| units > 0 && units.is_multiple_of(*scale);
        match scales.into_iter().find(fits) {
            Some((scale, sign)) => format!("{}{sign}", units / scale),
            None => units.to_string(),
        }
    }

    /// The value in whole units, rounded up.
    pub fn whole(&self) -> u64 {
        self.milli.div_ceil(1000)
    }
}

/// `quantity` of `resource` in the units of [`Amounts`].
pub fn amount(resource: &str, quantity: &Quantity) -> u64 {
    if resource == CPU { quantity.milli() } else { quantity.whole() }
}

/// Quantities in the units of [`Amounts`].
pub fn amounts(quantities: &BTreeMap<String, Quantity>) -> Amounts {
    quantities.iter().map(|(name, quantity)| (name.clone(), amount(name, quantity))).collect()
}

/// An amount as people write it: `500m`, `64Mi`, `3`.
pub fn written(resource: &str, amount: u64) -> String {
    if resource == CPU {
        return if amount.is_multiple_of(1000) {
            (amount / 1000).to_string()
        } else {
            format!("{amount}m")
        };
    }
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let unit = units.into_iter().find(|(_, bits)| amount.is_multiple_of(1 << bits));
    match unit {
        Some((unit, bits)) if resource == MEMORY && amount > 0 => {
            format!("{}{unit}", amount >> bits)
        }
        _ => amount.to_string(),
    }
}

/// A unit in which amounts of a resource are shown: its size, and its suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit(u64, &'static str);

impl Unit {
    /// The largest unit that `amount` of `resource` has at least one of: cores for cpu, Ki, Mi, Gi
    /// or Ti for anything else.
    pub fn of(resource: &str, amount: u64) -> Self {
        if resource == CPU {
            return Unit(1000, "");
        }
        let units =
            [Unit(1 << 40, "Ti"), Unit(1 << 30, "Gi"), Unit(1 << 20, "Mi"), Unit(1 << 10, "Ki")];
        units.into_iter().find(|unit| amount >= unit.0).unwrap_or(Unit(1, ""))
    }

    /// Its suffix, for example `Mi`.
    pub fn sign(self) -> &'static str {
        self.1
    }

    /// `amount` in this unit, rounded down; below 10 with up to two digits after the point.
    pub fn number(self, amount: u64) -> String {
        let (whole, rest) = (amount / self.0, amount % self.0);
        let hundredths = rest.saturating_mul(100) / self.0;
        if whole >= 10 || hundredths == 0 {
            return whole.to_string();
        }
        format!("{whole}.{hundredths:02}").trim_end_matches('0').to_owned()
    }
}

/// An amount as tables show it, rounded down: `1.5Gi`, `0.25`.
pub fn shown(resource: &str, amount: u64) -> String {
    let unit = Unit::of(resource, amount);
    format!("{}{}", unit.number(amount), unit.sign())
}

/// The share of `all` that is `taken`, in percent; nothing if `all` is 0.
pub fn percent(taken: u64, all: u64) -> Option<u64> {
    taken.saturating_mul(100).checked_div(all)
}

/// The value of one unit with this suffix, in thousandths.
fn scale(suffix: &str) -> Option<u128> {
    let binary = |power: u32| Some(1000 * 1024_u128.pow(power));
    let decimal = |power: u32| Some(1000 * 1000_u128.pow(power));
    match suffix {
        "m" => Some(1),
        "" => Some(1000),
        "k" => decimal(1),
        "M" => decimal(2),
        "G" => decimal(3),
        "T" => decimal(4),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        _ => None,
    }
}

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_milli(text)
            .map(|milli| Self { text: text.to_owned(), milli })
            .ok_or_else(|| NotAQuantity(text.to_owned()))
    }
}

/// Parses digits, an optional fraction of at most nine digits, and a suffix. Returns thousandths.
fn parse_milli(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let legal = (1..=19).contains(&whole.len()) && fraction.len() <= 9;
    if !legal || number.ends_with('.') || fraction.contains('.') {
        return None;
    }
    let scale = scale(suffix)?;
    let denominator = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let whole: u128 = whole.parse().ok()?;
    let milli = whole.checked_mul(scale)? + (fraction * scale).div_ceil(denominator);
    u64::try_from(milli).ok()
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}
impl Eq for Quantity {}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 2, 500m or 64Mi")
            }
            fn visit_u64<E: de::Error>(self, units: u64) -> Result<Quantity, E> {
                units.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, units: i64) -> Result<Quantity, E> {
                units.to_string().parse().map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, units: f64) -> Result<Quantity, E> {
                units.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "quantity" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_short() {
        for (resource, amount, text) in [
            (CPU, 2000, "2"),
            (CPU, 2500, "2.5"),
            (CPU, 10, "0.01"),
            (CPU, 12_500, "12"),
            (MEMORY, 1000, "1000"),
            (MEMORY, 64 << 20, "64Mi"),
            (MEMORY, 3 << 29, "1.5Gi"),
            (MEMORY, 23 << 30, "23Gi"),
            (MEMORY, 2 << 40, "2Ti"),
            ("gpu", 8, "8"),
        ] {
            assert_eq!(shown(resource, amount), text);
        }
        assert_eq!((percent(1, 3), percent(1, 0)), (Some(33), None));
    }

    #[test]
    fn quantities_are_read_exactly() {
        for (text, milli) in [
            ("2", 2000),
            ("500m", 500),
            ("0.5", 500),
            ("1.5Gi", 1_610_612_736_000),
            ("64Mi", 67_108_864_000),
            ("1k", 1_000_000),
            ("0.0001", 1),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().milli(), milli, "{text}");
        }
        for bad in ["", "-1", "1.", ".5", "1..2", "1.2.3", "Mi", "5 Mi", "1e3", "99999999999999Ti"]
        {
            assert!(bad.parse::<Quantity>().is_err(), "{bad:?}");
        }
        assert_eq!(amount(CPU, &"500m".parse().unwrap()), 500);
        assert_eq!(amount(MEMORY, &"1Ki".parse().unwrap()), 1024);
    }

    #[test]
    fn what_is_nearly_a_known_resource_is_taken_for_a_slip() {
        for (name, expected) in [
            ("memroy", MEMORY),
            ("Memory", MEMORY),
            ("memmory", MEMORY),
            ("emmory", MEMORY),
            ("mem", MEMORY),
            ("ram", MEMORY),
            ("CPU", CPU),
            ("cpus", CPU),
            ("cup", CPU),
        ] {
            assert_eq!(meant(name), Some(expected), "{name}");
        }
        for own in [
            CPU,
            MEMORY,
            "gpu",
            "npu",
            "tpu",
            "vcpu",
            "pids",
            "memory-swap",
            "gpu-memory",
            "example.com/fpga",
            "example.com/memory",
            "disk",
            "licences",
            "hugepages-2Mi",
        ] {
            assert_eq!(meant(own), None, "{own}");
        }
    }
}
