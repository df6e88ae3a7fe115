//! Edges as smooth lines.

use std::fmt::Write as _;

/// A place in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// The uniform cubic B-spline that begins and ends at the outer points, as SVG path data.
pub(super) fn path(points: &[Point]) -> String {
    let mut data = String::new();
    write(&mut data, points).expect("a string takes any text");
    data
}

fn write(data: &mut String, points: &[Point]) -> std::fmt::Result {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Ok(()) };
    write!(data, "M{} ", pair(*first))?;
    if points.len() > 2 {
        write!(data, "L{} ", pair(weighed(&[(points[0], 5.0), (points[1], 1.0)])))?;
        for at in 0..points.len() - 1 {
            let (a, b, c) = (points[at], points[at + 1], points.get(at + 2).copied().unwrap_or(*last));
            let near = weighed(&[(a, 2.0), (b, 1.0)]);
            let far = weighed(&[(a, 1.0), (b, 2.0)]);
            let end = weighed(&[(a, 1.0), (b, 4.0), (c, 1.0)]);
            write!(data, "C{} {} {} ", pair(near), pair(far), pair(end))?;
        }
    }
    write!(data, "L{}", pair(*last))
}

fn weighed(points: &[(Point, f64)]) -> Point {
    let total: f64 = points.iter().map(|(_, weight)| weight).sum();
    let along = |of: fn(&Point) -> f64| points.iter().map(|(point, weight)| of(point) * weight).sum::<f64>() / total;
    Point { x: along(|p| p.x), y: along(|p| p.y) }
}

fn pair(point: Point) -> String {
    format!("{:.1},{:.1}", point.x, point.y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_and_ends_at_the_outer_points() {
        let point = |x: f64, y: f64| Point { x, y };
        assert_eq!(path(&[]), "");
        assert_eq!(path(&[point(0.0, 0.0), point(6.0, 0.0)]), "M0.0,0.0 L6.0,0.0");
        let bent = path(&[point(0.0, 0.0), point(6.0, 6.0), point(12.0, 0.0)]);
        assert!(bent.starts_with("M0.0,0.0 L1.0,1.0 C") && bent.ends_with(" L12.0,0.0"), "{bent}");
    }
}
