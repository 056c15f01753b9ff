//! Many small looks at a tree, on all cores, with results as if they had been made one after the other.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// More threads than this only wait for the file system together.
const THREADS: usize = 8;
/// Fewer items are not worth a thread.
const LEAST: usize = 16;
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
    let mut outcomes = Vec::with_capacity(items.len());
    parts.into_iter().for_each(|part| outcomes.extend(part));
    Ok(outcomes)
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
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS);
    let chunk = items.len().div_ceil(cores * CHUNKS_FOR_EACH).max(LEAST);
    let chunks: Vec<&[T]> = items.chunks(chunk).collect();
    let next = AtomicUsize::new(0);
    let run = || -> Result<Vec<Numbered<Vec<Outcome>>>, Numbered<Error>> {
        let mut state = start().map_err(|error| (0, error))?;
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = chunks.get(number) else { return Ok(done) };
            let mut outcomes = Vec::with_capacity(part.len());
            for (at, item) in part.iter().enumerate() {
                outcomes.push(work(&mut state, number * chunk + at, item).map_err(|error| (number, error))?);
            }
            done.push((number, outcomes));
        }
    };
    let threads = if chunks.len() <= 1 {
        vec![run()]
    } else {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..cores.min(chunks.len())).map(|_| scope.spawn(run)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    };
    let mut parts = Vec::with_capacity(chunks.len());
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
}
