//! Which weights share a scale. A weight is [o, i, kh, kw], [o, i, k] or [o, i], output channels first.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::QuantError;
use crate::error::setting;

/// Which weights share a scale and, where levels are found, a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "per")]
pub enum Granularity {
    /// All.
    Tensor,
    /// Those of an output channel.
    Channel,
    /// `size` neighbours along the flattened inputs of an output channel; its last group may be smaller (FGQ,
    /// Mellempudi et al. 2017, arXiv:1705.01462).
    Group {
        /// Weights in a group, at least 1.
        size: usize,
    },
    /// Those at the same place of all kernels: kh · kw groups (SYQ, Faraone et al. 2018, arXiv:1807.00301).
    Pixel,
    /// Those in the same row of all kernels: kh groups (SYQ).
    Row,
}

impl Granularity {
    /// The granularity's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Granularity::Tensor => "tensor",
            Granularity::Channel => "channel",
            Granularity::Group { .. } => "group",
            Granularity::Pixel => "pixel",
            Granularity::Row => "row",
        }
    }
}

/// A granularity laid over a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    granularity: Granularity,
    elements: usize,
    per_channel: usize,
    kernel: usize,
    kernel_width: usize,
}

impl Groups {
    /// The groups of a weight of that shape.
    ///
    /// # Errors
    /// `Setting` when a group size is 0.
    pub fn of(granularity: Granularity, shape: &[usize]) -> Result<Self, QuantError> {
        if let Granularity::Group { size } = granularity {
            setting("group size", size as f64, size > 0, "at least 1")?;
        }
        Ok(Groups {
            granularity,
            elements: shape.iter().product(),
            per_channel: shape.iter().skip(1).product::<usize>().max(1),
            kernel: shape.iter().skip(2).product::<usize>().max(1),
            kernel_width: if shape.len() > 2 { shape[shape.len() - 1].max(1) } else { 1 },
        })
    }

    /// The granularity.
    #[must_use]
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Number of groups.
    #[must_use]
    pub fn count(&self) -> usize {
        let channels = self.elements / self.per_channel;
        match self.granularity {
            Granularity::Tensor => 1,
            Granularity::Channel => channels,
            Granularity::Group { size } => channels * self.per_channel.div_ceil(size),
            Granularity::Pixel => self.kernel,
            Granularity::Row => self.kernel / self.kernel_width,
        }
    }

    /// The group of an element.
    #[must_use]
    pub fn group_of(&self, element: usize) -> usize {
        let (channel, inside) = (element / self.per_channel, element % self.per_channel);
        match self.granularity {
            Granularity::Tensor => 0,
            Granularity::Channel => channel,
            Granularity::Group { size } => {
                channel * self.per_channel.div_ceil(size) + inside / size
            }
            Granularity::Pixel => element % self.kernel,
            Granularity::Row => element % self.kernel / self.kernel_width,
        }
    }

    /// The elements of a group, ascending.
    #[must_use]
    pub fn members(&self, group: usize) -> Vec<usize> {
        match self.run(group) {
            Some(run) => run.collect(),
            None => (0..self.elements).filter(|&e| self.group_of(e) == group).collect(),
        }
    }

    /// The elements of a group where they are neighbours.
    fn run(&self, group: usize) -> Option<Range<usize>> {
        match self.granularity {
            Granularity::Tensor => Some(0..self.elements),
            Granularity::Channel => Some(group * self.per_channel..(group + 1) * self.per_channel),
            Granularity::Group { size } => {
                let groups = self.per_channel.div_ceil(size);
                let (channel, from) = (group / groups, group % groups * size);
                let to = (from + size).min(self.per_channel);
                Some(channel * self.per_channel + from..channel * self.per_channel + to)
            }
            Granularity::Pixel | Granularity::Row => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_partition_a_weight() {
        use Granularity::{Channel, Group, Pixel, Row, Tensor};
        let shape = [4, 3, 2, 5];
        for (granularity, count) in [
            (Tensor, 1),
            (Channel, 4),
            (Group { size: 8 }, 16),
            (Group { size: 100 }, 4),
            (Pixel, 10),
            (Row, 2),
        ] {
            let groups = Groups::of(granularity, &shape).unwrap();
            assert_eq!(groups.count(), count, "{granularity:?}");
            let mut seen = vec![0; 120];
            for group in 0..count {
                for element in groups.members(group) {
                    assert_eq!(groups.group_of(element), group, "{granularity:?}");
                    seen[element] += 1;
                }
            }
            assert!(seen.iter().all(|&times| times == 1), "{granularity:?}");
        }
        assert_eq!(Groups::of(Pixel, &[4, 3]).unwrap().count(), 1);
        assert!(Groups::of(Group { size: 0 }, &shape).is_err());
    }
}
