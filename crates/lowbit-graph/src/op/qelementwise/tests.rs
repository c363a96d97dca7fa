use super::*;

/// One of many cases that tell how onnxruntime 1.31.1 contracts the fixed part: with two roundings it would be 193.
#[test]
fn add_folds_the_zero_points_as_onnxruntime_does() {
    let codes = |code: u8| Tensor::vector(vec![code]);
    let inputs = [
        codes(143),
        Tensor::scalar(0.038_426_697_f32),
        Tensor::scalar(227u8),
        codes(245),
        Tensor::scalar(0.016_507_976_f32),
        Tensor::scalar(51u8),
        Tensor::scalar(0.050_589_29_f32),
        Tensor::scalar(194u8),
    ];
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Some).collect();
    let sum = add(&Inputs(&inputs), &mut Workspace::serial()).unwrap();
    assert_eq!(sum, codes(194));
}
