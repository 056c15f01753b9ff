//! What the host may ask, each with its answer. Nothing here can be refused for who asks: whoever
//! holds the other end of the port is the machine's owner.

use banger_proto::guest::v1::{Done, Pong, Ports, PoweringOff, Refusal, guest_frame::Body, host_frame::Request};
use rustix::time::{ClockId, Timespec, clock_settime};

use super::power_off::PowerOff;
use crate::agent::milestones::Milestones;
use crate::{ports, stats};

/// An answer and what follows once it is sent.
pub struct Answered {
    /// The answer.
    pub body: Body,
    /// Done after sending.
    pub afterwards: Option<Box<dyn FnOnce()>>,
}

/// Carries out a request.
pub fn answer(request: Option<Request>, milestones: &Milestones, power_off: &PowerOff) -> Answered {
    let body = match request {
        Some(Request::Ping(_)) => Body::Pong(Pong { uptime_ms: stats::uptime_ms() }),
        Some(Request::ListPorts(_)) => Body::Ports(Ports { ports: ports::observe() }),
        Some(Request::GetStats(_)) => Body::Stats(stats::observe()),
        Some(Request::SetTime(time)) => match set_time(time.unix_time_ms) {
            Ok(()) => Body::Done(Done {}),
            Err(error) => refusal(format!("cannot set the clock: {error}")),
        },
        Some(Request::Hello(_)) => match milestones.latest() {
            Some(milestone) => Body::Milestone(milestone),
            None => refusal("the guest has not reached a milestone yet".into()),
        },
        Some(Request::SyncAndPowerOff(_)) => {
            rustix::fs::sync();
            let (power_off, end) = (power_off.clone(), milestones.end().clone());
            return Answered {
                body: Body::PoweringOff(PoweringOff { synced: true }),
                afterwards: Some(Box::new(move || power_off.start(&end))),
            };
        }
        None => refusal("this agent does not know the request".into()),
    };
    Answered { body, afterwards: None }
}

fn refusal(reason: String) -> Body {
    Body::Refusal(Refusal { reason })
}

/// Sets the clock.
///
/// # Errors
/// What the kernel says, or that the time is out of range.
pub fn set_time(unix_time_ms: u64) -> std::io::Result<()> {
    let seconds = i64::try_from(unix_time_ms / 1000).map_err(std::io::Error::other)?;
    let nanoseconds = i64::try_from(unix_time_ms % 1000 * 1_000_000).map_err(std::io::Error::other)?;
    Ok(clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds })?)
}
