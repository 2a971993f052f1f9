//! How often runs of words occur in a text.

use std::collections::HashMap;
use std::hash::Hash;

use optc_tensor::{DType, Tensor};

use crate::ops::message::type_of;
use crate::ops::number::checked_len;
use crate::{Args, Const, Dim, Facts, InferCx, OpError, Real, Semantics, TensorType, Type, Val, ensure, op, text_enum};

text_enum! {
    /// What is made of the number of times that an n-gram occurs.
    pub enum NgramMode {
        /// The number itself.
        Tf = "tf",
        /// The weight where it occurs at all.
        Idf = "idf",
        /// The number times the weight.
        TfIdf = "tf_idf",
    }
}

op! {
    /// Counts n-grams in each row of `x`, or in `x` where it is a vector: `n` words of which each stands `s + 1` places
    /// after the one before, for each `n` of `min_length..=max_length` and each `s` of `0..=max_skip`. A single word is
    /// counted once at each place.
    ///
    /// `pool` has the n-grams that are counted, those of one word first, then those of two, and so on; `starts` says
    /// where those of each length begin. `columns` has the place of each in the result, which has one more column than
    /// the largest says, and `weights` the weight of each. What n-grams of one column give is added up.
    ///
    /// - (C1) `x` is a vector or a matrix of `i32`, `i64` or strings, and `pool` a vector of strings or of `i64` alike.
    /// - (C2) `starts` rises from 0 to no more than the length of `pool`, and the n-grams of each length are whole and
    ///   different ones.
    /// - (C3) `columns` has one place for each n-gram, and none is negative; `weights` is empty, or has one for each
    ///   n-gram.
    /// - (C4) `1 ≤ min_length ≤ max_length`, and `max_skip` is not negative.
    "str.ngrams" = Ngrams(x) {
        /// The column of each n-gram.
        columns: Vec<i64>,
        /// The most words of an n-gram that is counted.
        max_length: i64,
        /// The most words that are skipped between two.
        max_skip: i64 = 0,
        /// The fewest words of an n-gram that is counted.
        min_length: i64,
        /// What is made of the counts.
        mode: NgramMode = NgramMode::Tf,
        /// The words of all n-grams.
        pool: Const,
        /// Where the n-grams of each length begin in the pool.
        starts: Vec<i64>,
        /// The weight of each n-gram; all are 1 where it is empty.
        weights: Vec<Real> = vec![],
    }
}

/// The n-grams of one length in the pool: where they begin and end, and the first one's number.
struct Length {
    words: usize,
    from: usize,
    to: usize,
    first: usize,
}

impl Ngrams {
    /// The n-grams of the pool by their length.
    fn lengths(&self) -> Result<Vec<Length>, OpError> {
        let (total, mut first, mut lengths) = (self.pool.0.len(), 0, vec![]);
        for (i, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(i + 1).map_or(Ok(total), |&end| usize::try_from(end));
            let range = usize::try_from(start).ok().zip(end.ok());
            let range = range.filter(|&(from, to)| from <= to && to <= total && (to - from).is_multiple_of(i + 1));
            let starts = &self.starts;
            let Some((from, to)) = range.filter(|&(from, _)| i > 0 || from == 0) else {
                let reason = format!("`starts` is {starts:?} for a pool of {total}");
                return Err(OpError::Constraint { constraint: "C2", reason });
            };
            lengths.push(Length { words: i + 1, from, to, first });
            first += (to - from) / (i + 1);
        }
        ensure!(!lengths.is_empty() || total == 0, "C2", "`starts` is empty for a pool of {total}");
        let places = self.columns.len();
        ensure!(places == first, "C3", "there are {places} columns for {first} n-grams");
        let weights = self.weights.len();
        ensure!(weights == 0 || weights == first, "C3", "there are {weights} weights for {first} n-grams");
        Ok(lengths)
    }

    /// The number of columns.
    fn width(&self) -> Result<usize, OpError> {
        let least = self.columns.iter().min().copied().unwrap_or(0);
        ensure!(least >= 0, "C3", "column {least} is negative");
        let last = self.columns.iter().max().map(|&last| usize::try_from(last).unwrap_or(usize::MAX));
        Ok(last.map_or(0, |last| last.saturating_add(1)))
    }

    fn check(&self, dtype: DType) -> Result<(), OpError> {
        let pool = &self.pool.0;
        let alike = match dtype {
            DType::Str => pool.dtype() == DType::Str,
            DType::I32 | DType::I64 => pool.dtype() == DType::I64,
            _ => false,
        };
        ensure!(alike && pool.rank() == 1, "C1", "`x` is {dtype}, `pool` is {}", type_of(pool));
        let (min, max, skip) = (self.min_length, self.max_length, self.max_skip);
        ensure!(1 <= min && min <= max && skip >= 0, "C4", "{min} to {max} words with up to {skip} skipped");
        Ok(())
    }

    /// The counts of all n-grams in each row, for words of one kind.
    fn counted<W: Eq + Hash>(&self, (pool, words): (&[W], &[W]), [rows, row]: [usize; 2]) -> Result<Vec<u32>, OpError> {
        let mut numbers = HashMap::new();
        let mut number = |word| {
            let next = numbers.len();
            *numbers.entry(word).or_insert(next)
        };
        let pool: Vec<usize> = pool.iter().map(&mut number).collect();
        // Words that the pool lacks end no n-gram of it.
        let text: Vec<usize> = words.iter().map(|word| numbers.get(word).copied().unwrap_or(usize::MAX)).collect();
        let all = self.columns.len();
        checked_len(DType::U32, &[rows, all])?;
        let mut counts = vec![0u32; rows * all];
        for length in self.lengths()? {
            let Length { words, from, to, first } = length;
            let mut found: HashMap<&[usize], usize> = HashMap::new();
            for (ngram, number) in pool[from..to].chunks_exact(words).zip(first..) {
                ensure!(found.insert(ngram, number).is_none(), "C2", "an n-gram of {words} words is there twice");
            }
            if !(self.min_length..=self.max_length).contains(&(words as i64)) || found.is_empty() {
                continue;
            }
            for (text, counts) in text.chunks_exact(row.max(1)).zip(counts.chunks_exact_mut(all.max(1))) {
                self.count(text, words, |ngram| {
                    if let Some(&number) = found.get(ngram) {
                        counts[number] += 1;
                    }
                });
            }
        }
        Ok(counts)
    }

    /// Calls `visit` with each run of `n` words.
    fn count(&self, text: &[usize], n: usize, mut visit: impl FnMut(&[usize])) {
        let mut ngram = vec![0; n];
        let farthest = if n == 1 { 1 } else { (text.len() - 1) / (n - 1) };
        let farthest = farthest.min(usize::try_from(self.max_skip).unwrap_or(usize::MAX).saturating_add(1));
        for distance in 1..=farthest {
            for start in 0..text.len().saturating_sub(distance * (n - 1)) {
                ngram.iter_mut().zip(text[start..].iter().step_by(distance)).for_each(|(to, &word)| *to = word);
                visit(&ngram);
            }
        }
    }

    /// What an n-gram gives that occurs so often.
    fn value(&self, number: usize, count: u32) -> f64 {
        let weight = self.weights.get(number).map_or(1.0, |w| f64::from(w.0));
        match self.mode {
            NgramMode::Tf => f64::from(count),
            NgramMode::Idf if count > 0 => weight,
            NgramMode::Idf => 0.0,
            NgramMode::TfIdf => f64::from(count) * weight,
        }
    }
}

impl Semantics for Ngrams {
    const FACTS: Facts<Ngrams> = Facts::host("strings are values of the host").with_strings();

    fn infer(&self, cx: &InferCx) -> Result<Vec<Type>, OpError> {
        let x = cx.tensor(0)?;
        self.check(x.dtype)?;
        self.lengths()?;
        let width = Dim::Known(self.width()?);
        let Some(shape) = &x.shape else { return Ok(vec![TensorType::unranked(DType::F32).into()]) };
        let rank = shape.len();
        ensure!(matches!(rank, 1 | 2), "C1", "`x` is {x}, expected a vector or a matrix");
        let rows = shape[..rank - 1].iter().cloned();
        Ok(vec![TensorType::new(DType::F32, rows.chain([width]).collect()).into()])
    }

    /// The numbers of the words, and the sums; the counts are claimed where they are made.
    fn working_bytes(&self, operands: usize, results: usize) -> usize {
        operands.saturating_mul(8).saturating_add(results.saturating_mul(3))
    }

    fn eval(&self, args: &Args) -> Result<Vec<Val>, OpError> {
        let x = args.tensor(0)?;
        self.check(x.dtype())?;
        self.lengths()?;
        let (pool, width) = (&self.pool.0, self.width()?);
        let (rows, row) = match *x.shape() {
            [row] => (1, row),
            [rows, row] => (rows, row),
            _ => return Err(OpError::Constraint { constraint: "C1", reason: format!("`x` is {}", type_of(x)) }),
        };
        let shape = [&x.shape()[..x.rank() - 1], &[width]].concat();
        checked_len(DType::F64, &shape)?;
        let counts = match x.dtype() {
            DType::Str => self.counted((pool.strings()?, x.strings()?), [rows, row]),
            _ => self.counted((pool.as_slice::<i64>()?, &x.to_i64_vec()), [rows, row]),
        }?;
        let mut values = vec![0f64; rows * width];
        let all = self.columns.len().max(1);
        for (counts, values) in counts.chunks_exact(all).zip(values.chunks_exact_mut(width.max(1))) {
            for (number, (&count, &column)) in counts.iter().zip(&self.columns).enumerate() {
                values[column as usize] += self.value(number, count);
            }
        }
        Ok(vec![Tensor::from_f64(DType::F32, &shape, &values)?.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words 2 and 3, then the pairs 1 2, 2 4 and 4 4; columns in another order.
    fn op(mode: NgramMode, max_skip: i64, [min_length, max_length]: [i64; 2]) -> Ngrams {
        let pool = Tensor::from_slice(&[8], &[2i64, 3, 1, 2, 2, 4, 4, 4]).unwrap();
        let weights = if mode == NgramMode::Tf { vec![] } else { [1.0, 2.0, 3.0, 4.0, 5.0].map(Real).to_vec() };
        let (columns, starts) = (vec![4, 3, 2, 1, 0], vec![0, 2]);
        Ngrams { columns, max_length, max_skip, min_length, mode, pool: Const(pool), starts, weights }
    }

    fn eval(op: &Ngrams, shape: &[usize], x: &[i32]) -> Result<Vec<f64>, OpError> {
        let x = Tensor::from_slice(shape, x).unwrap();
        Ok(op.eval(&Args::plain(&[Some(x.into())]))?[0].as_tensor().unwrap().to_f64_vec())
    }

    #[test]
    fn words_are_counted_once_and_pairs_at_each_distance() {
        let text = [1, 2, 4, 4, 9, 2];
        let of = |mode, skip, lengths| eval(&op(mode, skip, lengths), &[6], &text).unwrap();
        assert_eq!(of(NgramMode::Tf, 0, [1, 2]), [1.0, 1.0, 1.0, 0.0, 2.0]);
        // With a word between them 2 4 is there once more; what is farther apart is not in the pool.
        assert_eq!(of(NgramMode::Tf, 3, [1, 2]), [1.0, 2.0, 1.0, 0.0, 2.0]);
        // The first word and the last one are a pair as well.
        assert_eq!(of(NgramMode::Tf, i64::MAX, [2, 9]), [1.0, 2.0, 2.0, 0.0, 0.0]);
        // The weights are those of the n-grams, in the order of the pool.
        assert_eq!(of(NgramMode::Idf, 1, [1, 2]), [5.0, 4.0, 3.0, 0.0, 1.0]);
        assert_eq!(of(NgramMode::TfIdf, 1, [1, 2]), [5.0, 8.0, 3.0, 0.0, 2.0]);
        let shared = Ngrams { columns: vec![1, 0, 0, 1, 1], ..op(NgramMode::TfIdf, 1, [1, 2]) };
        assert_eq!(eval(&shared, &[6], &text).unwrap(), [3.0, 2.0 + 8.0 + 5.0]);
    }

    #[test]
    fn rows_are_texts_of_their_own_and_may_be_empty() {
        let op = op(NgramMode::Tf, 5, [1, 2]);
        let one = eval(&op, &[2, 2], &[4, 4, 4, 2]).unwrap();
        assert_eq!(one, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!((eval(&op, &[0], &[]).unwrap(), eval(&op, &[2, 0], &[]).unwrap()), (vec![0.0; 5], vec![0.0; 10]));
    }

    #[test]
    fn pools_that_are_not_whole_are_refused() {
        let refused = |op: Ngrams| eval(&op, &[1], &[1]).is_err();
        for starts in [vec![], vec![1, 2], vec![0, 3], vec![0, 9], vec![0, -1], vec![2, 0]] {
            assert!(refused(Ngrams { starts: starts.clone(), ..op(NgramMode::Tf, 0, [1, 2]) }), "{starts:?}");
        }
        assert!(refused(Ngrams { columns: vec![0, 1, 2, 3], ..op(NgramMode::Tf, 0, [1, 2]) }));
        assert!(refused(Ngrams { columns: vec![0, 1, 2, 3, -4], ..op(NgramMode::Tf, 0, [1, 2]) }));
        assert!(refused(Ngrams { columns: vec![0, 1, 2, 3, i64::MAX], ..op(NgramMode::Tf, 0, [1, 2]) }));
        let twice = Tensor::from_slice(&[2], &[7i64, 7]).unwrap();
        let (columns, starts) = (vec![0, 1], vec![0]);
        assert!(refused(Ngrams { pool: Const(twice), columns, starts, ..op(NgramMode::Tf, 0, [1, 2]) }));
    }
}
