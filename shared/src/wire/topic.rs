//! MQTT topics: `dl/1/<fleet>/<partition>/<device>/<leaf>` and `dl/1/<fleet>/host`.
//!
//! A topic is untrusted input like any other: it is parsed once, here, and the partition in it must be the device's.

use crate::units::{Name, partition};
use core::fmt;

/// Last part of a device's topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leaf {
    /// Device to collector, retained.
    Birth,
    /// Device to collector: last will, retained.
    Death,
    /// Device to collector: frames of windows.
    Windows,
    /// Device to collector: events.
    Events,
    /// Device to collector: requests.
    Requests,
    /// Device to collector: raw samples that were asked for.
    Evidence,
    /// Collector to device.
    Commands,
    /// Collector, or a tool of the operator, to device: what samples really were.
    Labels,
}

impl Leaf {
    /// The leaf in topics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Death => "death",
            Self::Windows => "w",
            Self::Events => "e",
            Self::Requests => "q",
            Self::Evidence => "s",
            Self::Commands => "c",
            Self::Labels => "l",
        }
    }

    /// Whether devices publish on it.
    pub fn is_from_device(self) -> bool {
        Self::FROM_DEVICE.contains(&self)
    }

    /// Leaves that devices publish on.
    pub const FROM_DEVICE: [Self; 6] =
        [Self::Birth, Self::Death, Self::Windows, Self::Events, Self::Requests, Self::Evidence];
}

/// Who a device topic belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceTopic {
    /// Fleet.
    pub fleet: Name,
    /// Device.
    pub device: Name,
    /// What it carries.
    pub leaf: Leaf,
}

impl DeviceTopic {
    /// Parses a topic; `None` when it is none of ours, a name breaks the grammar or the partition is another device's.
    pub fn parse(topic: &str) -> Option<Self> {
        let mut parts = topic.strip_prefix("dl/1/")?.split('/');
        let fleet = Name::new(parts.next()?).ok()?;
        let p = parts.next()?;
        let device = Name::new(parts.next()?).ok()?;
        let leaf = parts.next()?;
        let leaf = [Leaf::Commands, Leaf::Labels].into_iter().chain(Leaf::FROM_DEVICE).find(|l| l.as_str() == leaf)?;
        // "+7" and "007" are numbers too, but no topics of ours.
        let ours = p.parse() == Ok(partition(&device)) && (p == "0" || !p.starts_with(['0', '+']));
        (ours && parts.next().is_none()).then_some(Self { fleet, device, leaf })
    }
}

impl fmt::Display for DeviceTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dl/1/{}/{}/{}/{}", self.fleet, partition(&self.device), self.device, self.leaf.as_str())
    }
}

/// The collector's own topic in a fleet.
pub struct HostTopic<'a>(pub &'a Name);

impl fmt::Display for HostTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dl/1/{}/host", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn only_our_own_topics_parse() {
        let topic =
            DeviceTopic { fleet: Name::new("f").unwrap(), device: Name::new("a").unwrap(), leaf: Leaf::Windows };
        // The partition of "a" is 12 (units.rs).
        assert_eq!(topic.to_string(), "dl/1/f/12/a/w");
        assert_eq!(DeviceTopic::parse("dl/1/f/12/a/w"), Some(topic));
        for bad in [
            "dl/1/f/13/a/w",
            "dl/1/f/012/a/w",
            "dl/1/f/+12/a/w",
            "dl/1/f/12/a/x",
            "dl/1/f/12/a/w/x",
            "dl/2/f/12/a/w",
            "",
            "dl/1/f/12/+/w",
        ] {
            assert_eq!(DeviceTopic::parse(bad), None, "{bad}");
        }
    }
}
