use super::*;

fn check(rule: GradientRule, u: f32, expected: f32) {
    let at = Point { u, quantized: u.round().clamp(-1.0, 1.0), low: -1.0, high: 1.0, step: 1.0 };
    for g in [1.0, -2.5, 0.0] {
        let found = rule.gradient(&at, g);
        let wanted = if let GradientRule::Ewgs { delta } = rule {
            // Odd in g's sign: the caller states the slope for positive g.
            g * (1.0 + (expected - 1.0) * if g < 0.0 { -1.0 } else { 1.0 })
                * if delta > 0.0 { 1.0 } else { 0.0 }
        } else {
            g * expected
        };
        assert!(
            (found - wanted).abs() <= 1e-5 * (1.0 + wanted.abs()),
            "{rule:?} at {u}: {found}, {wanted}"
        );
    }
}

#[test]
fn slopes_are_those_of_the_formulas() {
    for (rule, u, expected) in [
        (GradientRule::Identity, 7.0, 1.0),
        (GradientRule::ClipSte, 1.0, 1.0),
        (GradientRule::ClipSte, -1.0, 1.0),
        (GradientRule::ClipSte, 1.001, 0.0),
        (GradientRule::ReluClip, -1.0, 0.0),
        (GradientRule::ReluClip, 1.0, 1.0),
        (GradientRule::ReluClip, 1.5, 0.0),
        (GradientRule::LogTail, 0.5, 1.0),
        (GradientRule::LogTail, 3.0, 1.0 / 3.0),
        (GradientRule::LogTail, -2.0, 0.0),
        (GradientRule::ApproxSign, 0.25, 1.5),
        (GradientRule::ApproxSign, -0.25, 1.5),
        (GradientRule::ApproxSign, -1.5, 0.0),
        (GradientRule::TanhEde { t: 0.1 }, 0.0, 1.0),
        (GradientRule::TanhEde { t: 10.0 }, 0.0, 10.0),
        (GradientRule::Ewgs { delta: 0.2 }, 0.7, 1.0 - 0.2 * 0.3),
        (GradientRule::ScaleWeighted, 0.2, 1.0),
        (GradientRule::SwishSign { beta: 5.0 }, 0.0, 5.0),
        (GradientRule::SwishSign { beta: 5.0 }, 500.0, 0.0),
    ] {
        check(rule, u, expected);
    }
    let ternary = Point { u: -3.0, quantized: -0.4, low: -0.4, high: 0.7, step: 0.0 };
    assert_eq!(GradientRule::ScaleWeighted.gradient(&ternary, 2.0), 0.8);
    let outside = GradientRule::Ewgs { delta: 0.1 };
    assert_eq!(outside.gradient(&Point { u: 2.0, ..ternary }, 2.0), 0.0);
}

/// Smooth rules are derivatives of a function: finite differences of it.
fn check_smooth(rule: GradientRule, forward: impl Fn(f64) -> f64) {
    for i in -40..40 {
        let u = f64::from(i) * 0.0249 + 0.001;
        let slope = (forward(u + 1e-5) - forward(u - 1e-5)) / 2e-5;
        let at = Point { u: u as f32, quantized: 0.0, low: -1.0, high: 1.0, step: 0.5 };
        let found = f64::from(rule.gradient(&at, 1.0));
        assert!(
            (found - slope).abs() < 2e-3 * (1.0 + slope.abs()),
            "{rule:?} at {u}: {found}, {slope}"
        );
    }
}

#[test]
fn smooth_rules_are_derivatives() {
    let t = 2.0;
    check_smooth(GradientRule::TanhEde { t: 2.0 }, |u| (t * u).tanh());
    check_smooth(GradientRule::ApproxSign, |u| u.signum() * (2.0 * u.abs() - u * u));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    check_smooth(GradientRule::SwishSign { beta: 5.0 }, |u| {
        2.0 * sigmoid(5.0 * u) * (1.0 + 5.0 * u * (1.0 - sigmoid(5.0 * u))) - 1.0
    });
    let (alpha, step) = (0.3f64, 0.5);
    let k = (2.0 / alpha - 1.0).ln() / step;
    check_smooth(GradientRule::Dsq { alpha: 0.3 }, |u| {
        let cell = ((u + 1.0) / step).floor();
        let middle = -1.0 + (cell + 0.5) * step;
        let phi = (k * (u - middle)).tanh() / (0.5 * k * step).tanh();
        -1.0 + step * (cell + (phi + 1.0) / 2.0)
    });
}
