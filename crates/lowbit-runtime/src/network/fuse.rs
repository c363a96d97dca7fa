//! Puts tables and residual sums behind the convolutions that feed them, and drops steps that do nothing.

use super::{Finish, Kind, Network, Sample, Step, ValueIndex};

impl Network {
    /// Fuses what can be.
    pub(super) fn fuse(&mut self) {
        self.drop_reshapes();
        self.fuse_samples();
        self.fuse_tables();
        self.fuse_sums();
    }

    /// A reshape of a reshape reads what that read. Where both sides are floats or one pixel, the bytes are the same, and readers
    /// read what was reshaped.
    fn drop_reshapes(&mut self) {
        let mut stands: Vec<ValueIndex> = (0..self.values.len()).collect();
        let mut origins = stands.clone();
        for step in &mut self.steps {
            let reshapes = matches!(step.kind, Kind::Reshape);
            for input in &mut step.inputs {
                *input = if reshapes { origins[*input] } else { stands[*input] };
            }
            if !reshapes {
                continue;
            }
            let (from, to) = (step.inputs[0], step.outputs[0]);
            origins[to] = from;
            let flat = |value: ValueIndex| {
                let [height, width, _] = self.values[value].image();
                self.values[value].codes().is_none() || height * width == 1
            };
            if self.values[from].image() == self.values[to].image() || (flat(from) && flat(to)) {
                stands[to] = from;
            }
        }
        self.outputs.iter_mut().for_each(|output| *output = stands[*output]);
        let dropped = |step: &Step| {
            matches!(step.kind, Kind::Reshape) && stands[step.outputs[0]] != step.outputs[0]
        };
        self.steps.retain(|step| !dropped(step));
        while let Some(unread) = self.steps.iter().position(|step| {
            matches!(step.kind, Kind::Reshape) && self.readers(step.outputs[0]) == 0
        }) {
            self.steps.remove(unread);
        }
    }

    fn readers(&self, value: ValueIndex) -> usize {
        let read = self.steps.iter().flat_map(|step| &step.inputs).filter(|&&v| v == value).count();
        read + self.outputs.iter().filter(|&&v| v == value).count()
    }

    /// The step that makes `value`, if nobody else reads it.
    fn only_maker(&self, value: ValueIndex) -> Option<usize> {
        let maker = self.steps.iter().position(|step| step.outputs == [value])?;
        (self.readers(value) == 1).then_some(maker)
    }

    /// A sample of a sample, as a slice that is padded, is one of what the first reads.
    fn fuse_samples(&mut self) {
        let mut index = 0;
        while index < self.steps.len() {
            match self.sample_of_sample(index) {
                Some((maker, both)) => {
                    self.steps[index].inputs = self.steps[maker].inputs.clone();
                    self.steps[index].kind = Kind::Sample(both);
                    self.steps.remove(maker);
                }
                None => index += 1,
            }
        }
    }

    /// The step that the sample reads alone, and what both are together.
    fn sample_of_sample(&self, index: usize) -> Option<(usize, Sample)> {
        let step = &self.steps[index];
        let maker = self.only_maker(*step.inputs.first()?)?;
        let (Kind::Sample(first), Kind::Sample(second)) = (&self.steps[maker].kind, &step.kind)
        else {
            return None;
        };
        let values = [self.steps[maker].inputs[0], step.inputs[0], step.outputs[0]];
        let codes = values.map(|value| self.values[value].codes());
        let images = values.map(|value| self.values[value].image());
        (codes[0] == codes[1] && codes[1] == codes[2]).then_some(())?;
        Some((maker, first.then(second, images)?))
    }

    fn fuse_tables(&mut self) {
        let mut index = 0;
        while index < self.steps.len() {
            if !self.fuse_table(index) {
                index += 1;
            }
        }
    }

    /// Whether the step was a table and is gone.
    fn fuse_table(&mut self, index: usize) -> bool {
        let step = &self.steps[index];
        let Kind::Table(tables) = &step.kind else { return false };
        let [table] = tables[..] else { return false };
        let (from, to) = (step.inputs[0], step.outputs[0]);
        let Some(maker) = self.only_maker(from) else { return false };
        if self.is_signs(to) && !self.is_signs(self.steps[maker].inputs[0]) {
            // Only a convolution of signs writes signs as bits; behind any other they are packed from its codes.
            return false;
        }
        let Kind::Conv(conv) = &mut self.steps[maker].kind else { return false };
        let Finish::Codes { range, table: own, add: None, .. } = &mut conv.finish else {
            return false;
        };
        match (clamp(&table), &own) {
            (Some(limits), None) => {
                *range = range.map(|bound| bound.clamp(limits[0], limits[1]));
            }
            _ => {
                let through = |code: u8| {
                    table[own.as_ref().map_or(code, |own| own[usize::from(code)]) as usize]
                };
                let mut both = Box::new([0; 256]);
                (0..=255u8).for_each(|code| both[usize::from(code)] = through(code));
                *own = Some(both);
            }
        }
        self.steps[maker].outputs = vec![to];
        self.steps.remove(index);
        true
    }

    fn fuse_sums(&mut self) {
        let mut index = 0;
        while index < self.steps.len() {
            if !self.fuse_sum(index) {
                index += 1;
            }
        }
    }

    /// Whether the step was a sum and is now part of the later of the convolutions that feed it.
    fn fuse_sum(&mut self, index: usize) -> bool {
        let step = &self.steps[index];
        let Kind::Add(add) = step.kind else { return false };
        let to = step.outputs[0];
        let (a, b) = (step.inputs[0], step.inputs[1]);
        if a == b || self.values[to].codes().is_none_or(|codes| codes.signed) {
            return false;
        }
        let fusable = |value: ValueIndex| {
            let maker = self.only_maker(value)?;
            let Kind::Conv(conv) = &self.steps[maker].kind else { return None };
            matches!(conv.finish, Finish::Codes { add: None, .. }).then_some(maker)
        };
        let made = |value| self.steps.iter().position(|step| step.outputs.contains(&value));
        let first = fusable(a).filter(|&maker| made(b).is_none_or(|other| other < maker));
        let second = fusable(b).filter(|&maker| made(a).is_none_or(|other| other < maker));
        let (maker, other, own_first) = match (first, second) {
            (Some(maker), _) => (maker, b, true),
            (None, Some(maker)) => (maker, a, false),
            (None, None) => return false,
        };
        if let Kind::Conv(conv) = &mut self.steps[maker].kind
            && let Finish::Codes { add: fused, .. } = &mut conv.finish
        {
            *fused = Some((add, own_first));
        }
        self.steps[maker].inputs.push(other);
        self.steps[maker].outputs = vec![to];
        self.steps.remove(index);
        true
    }
}

impl Sample {
    /// This sample and another of its result as one; `images` are the extents before, between and after. `None` where an element
    /// between them does not exist though the first image has it, or the two fill with different codes.
    fn then(&self, next: &Sample, images: [[usize; 3]; 3]) -> Option<Sample> {
        let inside = |at: i64, extent: usize| usize::try_from(at).is_ok_and(|at| at < extent);
        let mut both = Sample { fill: next.fill, ..*self };
        for (axis, &outputs) in images[2].iter().enumerate() {
            let far = self.step[axis].checked_mul(next.start[axis])?;
            both.start[axis] = self.start[axis].checked_add(far)?;
            both.step[axis] = self.step[axis].checked_mul(next.step[axis])?;
            for at in 0..i64::try_from(outputs).ok()? {
                let between = inside(next.start[axis] + at * next.step[axis], images[1][axis]);
                let along = both.step[axis].checked_mul(at)?;
                let before = inside(both.start[axis].checked_add(along)?, images[0][axis]);
                if before && !between || between && !before && self.fill != next.fill {
                    return None;
                }
            }
        }
        Some(both)
    }
}

/// The limits, where the table only clamps.
fn clamp(table: &[u8; 256]) -> Option<[u8; 2]> {
    let limits = [table[0], table[255]];
    let clamps = (0..=255u8)
        .all(|code| table[usize::from(code)] == code.clamp(limits[0], limits[1].max(limits[0])));
    (clamps && limits[0] <= limits[1]).then_some(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample along rows alone.
    fn rows(start: i64, step: i64, fill: u8) -> Sample {
        Sample { start: [start, 0, 0], step: [step, 1, 1], fill }
    }

    #[test]
    fn samples_join_where_the_first_image_lacks_what_the_one_between_lacks() {
        let extents = [8, 4, 6].map(|rows| [rows, 1, 1]);
        // Every second row from 1 on, then one row more on either side.
        let joined = rows(1, 2, 0).then(&rows(-1, 1, 9), extents);
        assert_eq!(joined, Some(rows(-1, 2, 9)));
        // The first four of eight rows: the row behind them exists.
        assert_eq!(rows(0, 1, 0).then(&rows(-1, 1, 9), extents), None);
        // Rows 2 to 5 of three: the first sample has filled some.
        let extents = [3, 4, 4].map(|rows| [rows, 1, 1]);
        assert_eq!(rows(2, 1, 9).then(&rows(0, 1, 9), extents), Some(rows(2, 1, 9)));
        assert_eq!(rows(2, 1, 7).then(&rows(0, 1, 9), extents), None);
    }
}
