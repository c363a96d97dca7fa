//! The part of a network that C is written of: one quantizer in front, codes, and float scores at the end.

use crate::network::{
    Codes, Dequantize, Float, Form, Kind, Network, Quantize, Step, Value, ValueIndex,
};
use crate::{Plan, RuntimeError};

/// A network whose only floats are its input and its scores.
#[derive(Debug)]
pub(super) struct Exported {
    pub(super) network: Network,
    /// What turns the input into codes, and the codes.
    pub(super) quantize: Quantize,
    pub(super) codes: ValueIndex,
    /// The value that the caller gets.
    pub(super) scores: ValueIndex,
    /// The softmax that was left out.
    pub(super) softmax: Option<String>,
}

impl Exported {
    pub(super) fn new(mut network: Network) -> Result<Exported, RuntimeError> {
        let &[output] = network.outputs.as_slice() else {
            let found = format!("{} outputs", network.outputs.len());
            return Err(RuntimeError::Model { found, expected: "one output" });
        };
        let softmax = cut_softmax(&mut network, output);
        let scores = float_scores(&mut network);
        let (quantize, codes) = quantizer(&network)?;
        let exported = Exported { network, quantize, codes, scores, softmax };
        exported.check()?;
        Ok(exported)
    }

    /// The steps that C is written for: all but the quantizer in front, whose number is not the first where others read nothing of it.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.network.steps.iter().filter(|step| step.inputs[0] != self.network.input)
    }

    pub(super) fn value(&self, index: ValueIndex) -> &Value {
        &self.network.values[index]
    }

    /// How codes of the value are read.
    pub(super) fn codes_of(&self, index: ValueIndex) -> Codes {
        self.value(index).codes().unwrap_or(Codes { zero_point: 0, signed: false })
    }

    /// The scores of floats, by the plan that is tested against the graph.
    pub(super) fn run(&self, input: &[f32]) -> Vec<f32> {
        let plan = Plan::new(&self.network, lowbit_kernels::Isa::Portable);
        let mut scores = vec![0.0; plan.output_len()];
        let pool = lowbit_kernels::nhwc::Pool::new(1);
        plan.run(input, &mut scores, &mut plan.memory(), &pool);
        scores
    }

    fn check(&self) -> Result<(), RuntimeError> {
        for step in self.steps() {
            if let Kind::Island(island) = &step.kind {
                return Err(refused(step, island.op, "it has no integer form"));
            }
            let floats = |&value: &ValueIndex| self.value(value).codes().is_none();
            let between = step.inputs.iter().any(floats)
                || step.outputs.iter().any(|output| floats(output) && *output != self.scores);
            if between || matches!(step.kind, Kind::Quantize(_)) {
                return Err(refused(step, step.kind.label(), "it computes with floats"));
            }
        }
        Ok(())
    }
}

fn refused(step: &Step, op: &'static str, found: &str) -> RuntimeError {
    let reason = format!("{found}; C is written of codes, and a softmax only as the last node");
    RuntimeError::Node { node: step.name.clone(), op, reason }
}

/// Takes away a softmax that makes the output; its name.
fn cut_softmax(network: &mut Network, output: ValueIndex) -> Option<String> {
    let last = network.steps.last()?;
    let softmax = match &last.kind {
        Kind::Island(island) => ["Softmax", "LogSoftmax"].contains(&island.op),
        Kind::Float(float) => matches!(**float, Float::Softmax(_)),
        _ => false,
    };
    if !softmax || last.outputs != [output] {
        return None;
    }
    network.outputs = vec![last.inputs[0]];
    network.steps.pop().map(|step| step.name)
}

/// The output as floats: where it is codes, a step is added that gives the model's codes as floats.
fn float_scores(network: &mut Network) -> ValueIndex {
    let output = network.outputs[0];
    let value = &network.values[output];
    if value.codes().is_none() {
        return output;
    }
    let scores = Value { form: Form::Floats, ..value.clone() };
    let step = Step {
        name: scores.name.clone(),
        kind: Kind::Dequantize(Dequantize { scales: vec![1.0], zero_points: vec![0] }),
        inputs: vec![output],
        outputs: vec![network.values.len()],
    };
    network.values.push(scores);
    network.steps.push(step);
    network.outputs = vec![network.values.len() - 1];
    network.outputs[0]
}

/// The one reader of the input.
fn quantizer(network: &Network) -> Result<(Quantize, ValueIndex), RuntimeError> {
    let reads = |step: &&Step| step.inputs.contains(&network.input);
    let readers: Vec<&Step> = network.steps.iter().filter(reads).collect();
    match readers[..] {
        [Step { kind: Kind::Quantize(quantize), outputs, .. }] => {
            Ok((quantize.clone(), outputs[0]))
        }
        _ => Err(RuntimeError::Model {
            found: format!("an input that {} steps read", readers.len()),
            expected: "an input that one QuantizeLinear reads: codes from there on",
        }),
    }
}
