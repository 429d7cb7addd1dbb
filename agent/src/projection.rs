//! What is watched of the model's own embedding of a sample: its length, where it lies along the directions in which the training samples
//! varied most, and how far it lies from all that these span.
//!
//! A model that looks at images sees more in them than their brightness: when what it sees is no longer what it was trained on, its
//! embedding leaves the training samples' directions (residual) or moves along them, whatever class it then gives.

use crate::inference::OUTPUTS_MAX;
use driftline_shared::manifest::Projection;

/// Most directions that are watched.
pub const DIRECTIONS_MAX: usize = 4;

/// A projection with its numbers on the heap.
pub type HeapProjection = Projection<Vec<f32>>;

/// Names of what is watched, in the order of [`values`].
pub fn names(projection: &HeapProjection) -> Vec<String> {
    let along = (1..=directions(projection)).map(|k| format!("embedding.{k}"));
    std::iter::once("embedding.length".into()).chain(along).chain(["embedding.rest".into()]).collect()
}

/// Appends what is watched of one embedding; NaN throughout for one that is not there, has another length or is not finite.
pub fn values(projection: &HeapProjection, embedding: &[f32], out: &mut Vec<f32>) {
    let mean = &projection.mean;
    let many = directions(projection);
    if embedding.len() != mean.len() || embedding.iter().any(|v| !v.is_finite()) {
        return out.extend(std::iter::repeat_n(f32::NAN, many + 2));
    }
    let length = |square: f64| square.max(0.0).sqrt() as f32;
    let centred = || embedding.iter().zip(mean).map(|(&v, &m)| f64::from(v) - f64::from(m));
    out.push(length(embedding.iter().map(|&v| f64::from(v) * f64::from(v)).sum()));
    let mut left: f64 = centred().map(|v| v * v).sum();
    for direction in projection.directions.chunks_exact(mean.len().max(1)) {
        let along: f64 = centred().zip(direction).map(|(v, &d)| v * f64::from(d)).sum();
        left -= along * along;
        out.push(along as f32);
    }
    out.push(length(left));
}

/// Why the numbers of a projection are none, if they are not.
pub fn check(projection: &HeapProjection) -> Result<(), String> {
    let Projection { mean, directions, .. } = projection;
    let width = mean.len();
    if width == 0 || width > OUTPUTS_MAX {
        return Err(format!("an embedding of {width} numbers, and 1 to {OUTPUTS_MAX} are possible"));
    }
    let many = directions.len() / width;
    if !directions.len().is_multiple_of(width) || many > DIRECTIONS_MAX {
        return Err(format!("{} numbers of at most {DIRECTIONS_MAX} directions of {width}", directions.len()));
    }
    match mean.iter().chain(directions).all(|v| v.is_finite()) {
        true => Ok(()),
        false => Err("numbers that are not finite".into()),
    }
}

fn directions(projection: &HeapProjection) -> usize {
    projection.directions.len() / projection.mean.len().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftline_shared::list::Text;
    use driftline_shared::manifest::FORMAT;

    fn plane() -> HeapProjection {
        let (mean, directions) = (vec![1.0, 0.0, 0.0], vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        Projection { format: FORMAT, tensor: Text::cut("embedding"), mean, directions }
    }

    #[test]
    fn an_embedding_is_told_by_length_directions_and_rest() {
        let mut out = vec![7.0];
        values(&plane(), &[3.0, 4.0, 12.0], &mut out);
        assert_eq!(out, [7.0, 13.0, 2.0, 4.0, 12.0]);
        assert_eq!(names(&plane()), ["embedding.length", "embedding.1", "embedding.2", "embedding.rest"]);
        for absent in [&[][..], &[1.0], &[f32::NAN, 0.0, 0.0]] {
            out.clear();
            values(&plane(), absent, &mut out);
            assert!(out.len() == 4 && out.iter().all(|v| v.is_nan()), "{out:?}");
        }
        out.clear();
        values(&plane(), &[f32::MAX, f32::MAX, f32::MAX], &mut out);
        assert!(out.iter().all(|v| !v.is_nan()), "{out:?}");
    }

    #[test]
    fn what_is_no_projection_is_told_apart() {
        assert_eq!(check(&plane()), Ok(()));
        let check = |change: &dyn Fn(&mut HeapProjection)| {
            let mut changed = plane();
            change(&mut changed);
            check(&changed).expect_err("no projection")
        };
        assert_eq!(check(&|p| p.mean.clear()), "an embedding of 0 numbers, and 1 to 4096 are possible");
        assert_eq!(check(&|p| p.directions.truncate(5)), "5 numbers of at most 4 directions of 3");
        assert_eq!(check(&|p| p.directions = vec![0.0; 15]), "15 numbers of at most 4 directions of 3");
        assert_eq!(check(&|p| p.mean[0] = f32::NAN), "numbers that are not finite");
    }
}
