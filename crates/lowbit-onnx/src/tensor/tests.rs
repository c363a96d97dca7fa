//! Every type there and back, and the sizes that files may not claim.

use lowbit_tensor::{Buffer, DType, Tensor};

use super::*;

fn check(dtype: DType, buffer: Buffer, bytes: &[u8]) {
    let tensor = Tensor::try_new(dtype, [buffer.len()], buffer).unwrap();
    let proto = tensor_to_proto("t", &tensor);
    assert_eq!(proto.raw_data.as_deref(), Some(bytes), "{dtype}");
    assert_eq!(tensor_from_proto(proto, None).unwrap(), tensor, "{dtype}");
}

#[test]
fn every_type_survives_the_round_trip() {
    check(
        DType::F32,
        Buffer::F32(vec![1.0, f32::NAN.copysign(1.0)][..1].to_vec()),
        &[0, 0, 128, 63],
    );
    check(DType::I64, Buffer::I64(vec![-2]), &[254, 255, 255, 255, 255, 255, 255, 255]);
    check(DType::I32, Buffer::I32(vec![258]), &[2, 1, 0, 0]);
    check(DType::I16, Buffer::I16(vec![-1, 1]), &[255, 255, 1, 0]);
    check(DType::U16, Buffer::U16(vec![65535]), &[255, 255]);
    check(DType::I8, Buffer::I8(vec![-128, 127]), &[128, 127]);
    check(DType::U8, Buffer::U8(vec![0, 255]), &[0, 255]);
    check(DType::Bool, Buffer::Bool(vec![true, false]), &[1, 0]);
    check(DType::I4, Buffer::I8(vec![-8, 7, -1]), &[0x78, 0x0f]);
    check(DType::U4, Buffer::U8(vec![1, 15, 2]), &[0xf1, 0x02]);
    check(DType::I2, Buffer::I8(vec![-2, 1, 0, -1, 1]), &[0b1100_0110, 0b01]);
    check(DType::U2, Buffer::U8(vec![3, 2, 1, 0, 2]), &[0b0001_1011, 0b10]);
}

#[test]
fn narrow_types_may_lie_in_int32_data() {
    let proto = TensorProto {
        dims: vec![3],
        data_type: Some(DataType::Int4 as i32),
        int32_data: vec![0x78, 0x0f],
        ..TensorProto::default()
    };
    let tensor = tensor_from_proto(proto, None).unwrap();
    assert_eq!(tensor.buffer(), &Buffer::I8(vec![-8, 7, -1]));
}

fn refuse(dims: Vec<i64>, data_type: DataType, raw: &[u8], message: &str) {
    let proto = TensorProto {
        dims,
        data_type: Some(data_type as i32),
        name: Some("w".into()),
        raw_data: Some(raw.to_vec()),
        ..TensorProto::default()
    };
    let error = tensor_from_proto(proto, None).unwrap_err().to_string();
    assert!(error.contains(message), "{error} lacks {message}");
}

#[test]
fn claims_are_checked_before_anything_is_allocated() {
    refuse(vec![-1], DataType::Float, &[], "none negative");
    refuse(vec![1 << 40, 1 << 40], DataType::Float, &[], "fewer than 2^61");
    refuse(vec![1 << 40], DataType::Float, &[0; 4], "found 4 bytes");
    refuse(vec![2], DataType::Int4, &[0; 2], "expected 1 bytes for 2 elements of int4");
    refuse(vec![1], DataType::Double, &[0; 8], "found double");
    refuse(vec![1], DataType::Float16, &[0; 2], "found float16");
    refuse(vec![1], DataType::String, &[], "found string");
}
