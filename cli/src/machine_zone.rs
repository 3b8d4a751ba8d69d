//! The time zone of this machine.

use rbee_scheduler::schedule::Zone;

/// The variable that names a zone for one process.
const ZONE_VARIABLE: &str = "TZ";

/// The IANA name of the zone of whoever gives the command.
pub fn name() -> String {
    let variable = std::env::var(ZONE_VARIABLE).ok();
    let named = variable
        .map(|zone| zone.trim_start_matches(':').to_owned())
        .filter(|zone| Zone::named(zone).is_ok());
    named
        .or_else(|| iana_time_zone::get_timezone().ok())
        .unwrap_or_else(|| "UTC".to_owned())
}
