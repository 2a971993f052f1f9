//! Numbers for people.

/// Bytes in binary units: `512 B`, `1.50 KiB`, `97.8 MiB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A count in decimal units: `950`, `4.10 G`.
pub fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", "k", "M", "G", "T", "P"]).trim_end().to_owned()
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 3 - (value.max(1.0).log10() as usize + 1) };
    format!("{value:.digits$} {}", units[unit])
}

/// Milliseconds: three digits after the point.
pub fn ms(value: f64) -> String {
    format!("{value:.3}")
}

/// A figure of an error: short in the usual range, with an exponent beyond.
pub fn error(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.3e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_step_up() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(102_562_816), "97.8 MiB");
        assert_eq!(bytes(200 << 20), "200 MiB");
        assert_eq!(count(950), "950");
        assert_eq!(count(4_100_000_000), "4.10 G");
    }
}
