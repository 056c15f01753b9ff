//! Many small looks at a tree, on all cores, with results as if they had been made one after the other.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// More threads than this only wait for the file system together.
const THREADS: usize = 8;
/// Fewer items are not worth a thread.
const LEAST: u64 = 16;
/// Many chunks for each core, as large files are not spread evenly and the last chunk leaves all other cores idle.
const CHUNKS_FOR_EACH: usize = 32;

/// With the number of the chunk it belongs to.
type Numbered<T> = (usize, T);

/// Runs `work` on every item, neighbouring ones on the same thread after each other; each thread has what `start` makes.
/// The results are in the order of the items.
///
/// # Errors
/// The first error in the order of the items.
pub fn map<T: Sync, State, Outcome: Send, Error: Send>(
    items: &[T],
    start: impl Fn() -> Result<State, Error> + Sync,
    work: impl Fn(&mut State, &T) -> Result<Outcome, Error> + Sync,
) -> Result<Vec<Outcome>, Error> {
    let parts = map_parts(items, start, |state, _, item| work(state, item))?;
    Ok(together(items.len(), parts))
}

/// How one item differs from a usual one.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    /// How many times as long it takes.
    pub times: u64,
    /// It needs what was there for the one before, so it is for the same thread.
    pub is_next: bool,
}

/// [`map`] of items of which some take much longer than others.
///
/// # Errors
/// The first error in the order of the items.
pub fn map_weighted<T: Sync, State, Outcome: Send, Error: Send>(
    items: &[T],
    weight: impl Fn(&T) -> Weight,
    start: impl Fn() -> Result<State, Error> + Sync,
    work: impl Fn(&mut State, &T) -> Result<Outcome, Error> + Sync,
) -> Result<Vec<Outcome>, Error> {
    let parts = run(items, &cut(items, weight), start, |state, _, item| work(state, item))?;
    Ok(together(items.len(), parts))
}

fn together<T>(count: usize, parts: Vec<Vec<T>>) -> Vec<T> {
    let mut all = Vec::with_capacity(count);
    parts.into_iter().for_each(|part| all.extend(part));
    all
}

/// [`map`] with the position of each item, that leaves the results as they are made, in several parts: with very many it
/// takes a while to bring them together.
///
/// # Errors
/// The first error in the order of the items.
pub fn map_parts<T: Sync, State, Outcome: Send, Error: Send>(
    items: &[T],
    start: impl Fn() -> Result<State, Error> + Sync,
    work: impl Fn(&mut State, usize, &T) -> Result<Outcome, Error> + Sync,
) -> Result<Vec<Vec<Outcome>>, Error> {
    run(items, &cut(items, |_| Weight { times: 1, is_next: false }), start, work)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(THREADS)
}

/// Where each chunk ends: all are about as heavy, as far as what belongs together allows.
fn cut<T>(items: &[T], weight: impl Fn(&T) -> Weight) -> Vec<usize> {
    let all = items.iter().map(|item| weight(item).times).fold(0, u64::saturating_add);
    let full = all.div_ceil((cores() * CHUNKS_FOR_EACH) as u64).max(LEAST);
    let (mut ends, mut held) = (Vec::new(), 0_u64);
    for (at, item) in items.iter().enumerate() {
        let Weight { times, is_next } = weight(item);
        if held >= full && !is_next {
            ends.push(at);
            held = 0;
        }
        held = held.saturating_add(times);
    }
    ends.extend((!items.is_empty()).then_some(items.len()));
    ends
}

fn run<T: Sync, State, Outcome: Send, Error: Send>(
    items: &[T],
    ends: &[usize],
    start: impl Fn() -> Result<State, Error> + Sync,
    work: impl Fn(&mut State, usize, &T) -> Result<Outcome, Error> + Sync,
) -> Result<Vec<Vec<Outcome>>, Error> {
    let next = AtomicUsize::new(0);
    let run = || -> Result<Vec<Numbered<Vec<Outcome>>>, Numbered<Error>> {
        let mut state = start().map_err(|error| (0, error))?;
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&end) = ends.get(number) else { return Ok(done) };
            let begin = number.checked_sub(1).map_or(0, |before| ends[before]);
            let mut outcomes = Vec::with_capacity(end - begin);
            for (at, item) in items.iter().enumerate().take(end).skip(begin) {
                outcomes.push(work(&mut state, at, item).map_err(|error| (number, error))?);
            }
            done.push((number, outcomes));
        }
    };
    let threads = if ends.len() <= 1 {
        vec![run()]
    } else {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..cores().min(ends.len())).map(|_| scope.spawn(run)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    };
    let mut parts = Vec::with_capacity(ends.len());
    let mut first_error: Option<Numbered<Error>> = None;
    for outcome in threads {
        match outcome {
            Ok(done) => parts.extend(done),
            Err(error) if first_error.as_ref().is_none_or(|(number, _)| error.0 < *number) => first_error = Some(error),
            Err(_) => {}
        }
    }
    if let Some((_, error)) = first_error {
        return Err(error);
    }
    parts.sort_unstable_by_key(|(number, _)| *number);
    Ok(parts.into_iter().map(|(_, part)| part).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_so_does_the_first_error() {
        for count in [0, 1, 15, 16, 17, 5000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = map(&items, || Ok::<_, usize>(()), |(), item| Ok(item * 2)).unwrap();
            assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        let items: Vec<usize> = (0..5000).collect();
        let positions = map_parts(&items, || Ok::<_, usize>(()), |(), position, _| Ok(position)).unwrap();
        assert_eq!(positions.concat(), items);
        let failed = map(&items, || Ok(()), |(), item| if item % 1000 == 999 { Err(*item) } else { Ok(()) });
        assert_eq!(failed.unwrap_err(), 999);
        assert_eq!(map(&items, || Err::<(), _>("no start"), |(), _| Ok(())).unwrap_err(), "no start");
    }

    #[test]
    fn what_is_heavy_is_alone_and_what_belongs_together_is_together() {
        let alone = |times: &u64| Weight { times: *times, is_next: false };
        assert!(cut(&[], alone).is_empty());
        assert_eq!(cut(&[7], alone), [1]);
        let items: Vec<u64> = (0..5000).map(|number| if number % 1000 == 500 { 1 << 30 } else { 1 }).collect();
        let ends = cut(&items, alone);
        let heavy = |ends: &[usize]| {
            let begins = std::iter::once(0).chain(ends.iter().copied());
            begins.zip(ends).map(|(begin, end)| items[begin..*end].iter().filter(|item| **item > 1).count()).max()
        };
        assert_eq!((ends.last(), heavy(&ends)), (Some(&5000), Some(1)));
        assert!(ends.len() <= 6, "{ends:?}");
        let weighted = map_weighted(&items, alone, || Ok::<_, ()>(()), |(), item| Ok(*item)).unwrap();
        assert_eq!(weighted, items);
        assert_eq!(cut(&items, |times| Weight { is_next: true, ..alone(times) }), [5000]);
        assert_eq!(cut(&[u64::MAX, u64::MAX, 1], alone), [1, 2, 3]);
    }
}
