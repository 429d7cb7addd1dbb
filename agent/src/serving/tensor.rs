//! The numbers of a tensor, from JSON or from bytes, as its datatype allows them.

use super::{InputTensor, Refused, cut};
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A tensor in JSON, however its rows are nested: its numbers, and what must be known of them before its type is.
#[derive(Debug)]
pub(super) struct Data {
    values: Vec<f32>,
    lowest: f64,
    highest: f64,
    whole: bool,
    truth: bool,
    text: Option<String>,
}

impl Data {
    fn number(&mut self, value: f64) {
        self.lowest = self.lowest.min(value);
        self.highest = self.highest.max(value);
        self.whole &= value.fract() == 0.0;
        self.values.push(value as f32);
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (lowest, highest) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut data = Self { values: Vec::new(), lowest, highest, whole: true, truth: false, text: None };
        from.deserialize_any(&mut data)?;
        Ok(data)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Data {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Data {
    type Value = ();
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("numbers")
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.number(value);
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.number(value as f64);
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.number(value as f64);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.truth = true;
        self.values.push(f32::from(u8::from(value)));
        Ok(())
    }
    /// A missing reading: JSON has no NaN.
    fn visit_unit<E>(self) -> Result<(), E> {
        self.values.push(f32::NAN);
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.text.get_or_insert_with(|| format!("{:?}", cut(text)));
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        while row.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }
}

/// Values of a tensor in JSON, as its datatype allows them.
pub(super) fn in_json(input: &InputTensor, data: Data) -> Result<Vec<f32>, Refused> {
    let name = || cut(&input.name);
    let (datatype, lowest, highest) = match input.datatype.as_str() {
        "BOOL" => ("BOOL", 0.0, 1.0),
        "INT8" => ("INT8", f64::from(i8::MIN), f64::from(i8::MAX)),
        "INT16" => ("INT16", f64::from(i16::MIN), f64::from(i16::MAX)),
        "INT32" => ("INT32", f64::from(i32::MIN), f64::from(i32::MAX)),
        "INT64" => ("INT64", i64::MIN as f64, i64::MAX as f64),
        "UINT8" => ("UINT8", 0.0, f64::from(u8::MAX)),
        "UINT16" => ("UINT16", 0.0, f64::from(u16::MAX)),
        "UINT32" => ("UINT32", 0.0, f64::from(u32::MAX)),
        "UINT64" => ("UINT64", 0.0, u64::MAX as f64),
        // What the model takes is FP32.
        "FP32" | "FP64" => ("FP32", f64::from(f32::MIN), f64::from(f32::MAX)),
        other => return Err(Refused::Datatype { name: name(), found: cut(other) }),
    };
    if let Some(text) = data.text {
        return Err(Refused::NotANumber { name: name(), text });
    }
    if data.truth && datatype != "BOOL" {
        return Err(Refused::NotANumber { name: name(), text: "true or false".into() });
    }
    if data.lowest < lowest || data.highest > highest || !(data.whole || datatype == "FP32") {
        return Err(Refused::Range { name: name(), datatype });
    }
    Ok(data.values)
}

fn size_of(datatype: &str) -> Option<usize> {
    Some(match datatype {
        "BOOL" | "INT8" | "UINT8" => 1,
        "INT16" | "UINT16" => 2,
        "FP32" | "INT32" | "UINT32" => 4,
        "FP64" | "INT64" | "UINT64" => 8,
        _ => return None,
    })
}

pub(super) fn binary(input: &InputTensor, bytes: &[u8]) -> Result<Vec<f32>, Refused> {
    let size = size_of(&input.datatype)
        .ok_or_else(|| Refused::Datatype { name: cut(&input.name), found: cut(&input.datatype) })?;
    if !bytes.len().is_multiple_of(size) {
        return Err(Refused::Form(format!("{} bytes of {} are no whole values", bytes.len(), input.datatype)));
    }
    /// Reads values of one type.
    macro_rules! values {
        ($t:ty) => {
            bytes.chunks_exact(size).map(|b| <$t>::from_le_bytes(b.try_into().unwrap_or_default()) as f32).collect()
        };
    }
    let beyond = |b: &[u8]| f64::from_le_bytes(b.try_into().unwrap_or_default()).is_finite();
    Ok(match input.datatype.as_str() {
        "FP32" => values!(f32),
        "FP64" => {
            let values: Vec<f32> = values!(f64);
            if values.iter().zip(bytes.chunks_exact(size)).any(|(v, b)| v.is_infinite() && beyond(b)) {
                return Err(Refused::Range { name: cut(&input.name), datatype: "FP32" });
            }
            values
        }
        "INT8" => values!(i8),
        "INT16" => values!(i16),
        "INT32" => values!(i32),
        "INT64" => values!(i64),
        "UINT16" => values!(u16),
        "UINT32" => values!(u32),
        "UINT64" => values!(u64),
        _ => values!(u8),
    })
}
