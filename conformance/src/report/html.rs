use super::Report;

pub(super) fn write(reports: &[Report]) -> String {
    let _ = reports;
    String::new()
}
