//! Puts tables and residual sums behind the convolutions that feed them, and drops steps that do nothing.

use super::{Finish, Kind, Network, Step, ValueIndex};

impl Network {
    /// Fuses what can be.
    pub(super) fn fuse(&mut self) {
        self.drop_reshapes();
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
        if self.signs(to).is_some() && self.signs(self.steps[maker].inputs[0]).is_none() {
            // Only a convolution of signs writes signs as bits; behind any other they are packed from its codes.
            return false;
        }
        let Kind::Conv(conv) = &mut self.steps[maker].kind else { return false };
        let Finish::Codes { range, table: own, add: None, .. } = &mut conv.finish else {
            return false;
        };
        match (clamp(&table), &own) {
            (Some(limits), None) => {
                *range = [range[0].max(limits[0]), range[1].min(limits[1])];
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

/// The limits, where the table only clamps.
fn clamp(table: &[u8; 256]) -> Option<[u8; 2]> {
    let limits = [table[0], table[255]];
    let clamps = (0..=255u8)
        .all(|code| table[usize::from(code)] == code.clamp(limits[0], limits[1].max(limits[0])));
    (clamps && limits[0] <= limits[1]).then_some(limits)
}
