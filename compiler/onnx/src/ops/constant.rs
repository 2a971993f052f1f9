//! Constants, and tensors that are made from nothing but numbers.

use optc_ir::Const;
use optc_ir::ops::tensor;
use optc_tensor::Tensor;

use super::Table;

pub(crate) const TABLE: Table = &[
    ("", "Constant", |cx| {
        let tensor = cx.constant_attribute()?;
        Ok(vec![cx.constant(tensor)])
    }),
    ("", "ConstantOfShape", |cx| {
        let value = match cx.tensor_attribute("value")? {
            Some(t) => t,
            None => Tensor::scalar(0f32),
        };
        let shape = cx.input(0)?;
        Ok(vec![cx.emit1(tensor::Fill { value: Const(value) }, &[shape])?])
    }),
];
