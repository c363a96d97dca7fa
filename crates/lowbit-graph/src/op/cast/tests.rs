use super::*;
use crate::Op;
use crate::op::dispatch::testing::check;

fn cast(to: DType) -> Op {
    Op::Cast(Cast { to })
}

fn narrow(to: DType, buffer: Buffer) -> Tensor {
    Tensor::try_new(to, [buffer.len()], buffer).unwrap()
}

#[test]
fn floats_truncate_and_saturate() {
    let x = Tensor::vector(vec![-1.9, 1.9, 300.0, f32::NAN, -0.0, f32::NEG_INFINITY]);
    check(&cast(DType::I64), &[&x], &Tensor::vector(vec![-1i64, 1, 300, 0, 0, i64::MIN]));
    check(&cast(DType::U8), &[&x], &Tensor::vector(vec![0u8, 1, 255, 0, 0, 0]));
    check(&cast(DType::I4), &[&x], &narrow(DType::I4, Buffer::I8(vec![-1, 1, 7, 0, 0, -8])));
    check(&cast(DType::U2), &[&x], &narrow(DType::U2, Buffer::U8(vec![0, 1, 3, 0, 0, 0])));
    let truth = vec![true, true, true, true, false, true];
    check(&cast(DType::Bool), &[&x], &Tensor::vector(truth));
}

#[test]
fn integers_keep_their_low_bits() {
    let x = Tensor::vector(vec![200i64, -1, 24, 0]);
    check(&cast(DType::I8), &[&x], &Tensor::vector(vec![-56i8, -1, 24, 0]));
    check(&cast(DType::U16), &[&x], &Tensor::vector(vec![200u16, 65535, 24, 0]));
    check(&cast(DType::I4), &[&x], &narrow(DType::I4, Buffer::I8(vec![-8, -1, -8, 0])));
    check(&cast(DType::U4), &[&x], &narrow(DType::U4, Buffer::U8(vec![8, 15, 8, 0])));
    check(&cast(DType::F32), &[&x], &Tensor::vector(vec![200f32, -1.0, 24.0, 0.0]));
    check(&cast(DType::Bool), &[&x], &Tensor::vector(vec![true, true, true, false]));
    check(&cast(DType::I32), &[&Tensor::vector(vec![true])], &Tensor::vector(vec![1i32]));
    let four = narrow(DType::I4, Buffer::I8(vec![-8, 7]));
    check(&cast(DType::I8), &[&four], &Tensor::vector(vec![-8i8, 7]));
    check(&cast(DType::I4), &[&four], &four);
}
