use lowbit_quant::RangeRule;

use super::*;
use crate::tests::{Noise, errors, residual, rounding, squeeze_excite};
use crate::{Plan, calibrate, quantize};

fn check(moment: Moment, channel_scales: bool) {
    for graph in [residual(), squeeze_excite()] {
        let plan = Plan::new(&graph, channel_scales).unwrap();
        let calibration = calibrate(&graph, &plan, &Noise(16), RangeRule::MinMax, &|_| {}).unwrap();
        let bits = if channel_scales { "int8" } else { "int4-mse" };
        let before = quantize(&graph, &plan, &calibration, &rounding(&graph, (bits, 8))).unwrap();
        let run = |quantized| reestimate(&graph, quantized, &Noise(16), moment, &|_| {}).unwrap();
        let (after, _) = run(&before);
        // Measured again, nothing is left to correct but what rounding biases to int32 and clipping leave.
        for report in run(&after).1 {
            assert!(report.error[0] < 1e-3, "{moment:?}: {report:?}");
        }
        let last = |quantized| errors(&graph, quantized).last().unwrap().sqnr_db;
        let (old, new) = (last(&before), last(&after));
        assert!(new > old - 0.5, "{moment:?}: {old} dB before, {new} dB after");
    }
}

#[test]
fn means_come_back() {
    check(Moment::Mean, false);
    check(Moment::Mean, true);
}

#[test]
fn spreads_come_back() {
    check(Moment::Spread, false);
    check(Moment::Spread, true);
}
