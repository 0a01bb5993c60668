//! Plots as SVG: lines over a few named places, on a logarithmic scale.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 45.0;
const COLOURS: [&str; 12] = [
    "#c0392b", "#2c6fbb", "#27834a", "#8e44ad", "#d68910", "#117a8b", "#7f6a3d", "#c2557f", "#566573", "#222222",
    "#999999", "#5b8c00",
];

pub(crate) struct Line {
    pub(crate) name: String,
    /// One for each place; none where nothing was measured.
    pub(crate) values: Vec<Option<f64>>,
}

/// The plot as a document. `unit` writes a value of the scale.
pub(crate) fn lines(title: &str, places: &[String], lines: &[Line], unit: fn(f64) -> String) -> String {
    let values = || lines.iter().flat_map(|line| &line.values).flatten().copied().filter(|value| *value > 0.0);
    let least = values().fold(f64::INFINITY, f64::min).log10().floor();
    let most = values().fold(0.0, f64::max).log10().ceil().max(least + 1.0);
    let x = |place: usize| LEFT + (WIDTH - LEFT - RIGHT) * (place as f64 + 0.5) / places.len() as f64;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value.log10() - least) / (most - least);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let text = |svg: &mut String, x: f64, y: f64, anchor: &str, content: &str| {
        let content = content.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>");
    };
    text(&mut svg, LEFT, 22.0, "start", title);
    if values().next().is_none() {
        text(&mut svg, WIDTH / 2.0, HEIGHT / 2.0, "middle", "nothing was measured");
        return svg + "</svg>\n";
    }
    for power in least as i32..=most as i32 {
        let (value, right) = (10_f64.powi(power), WIDTH - RIGHT);
        let at = y(value);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>");
        text(&mut svg, LEFT - 6.0, at + 4.0, "end", &unit(value));
    }
    for (place, name) in places.iter().enumerate() {
        text(&mut svg, x(place), HEIGHT - BOTTOM + 20.0, "middle", name);
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let width = if number == 0 { 3.0 } else { 1.5 };
        let dashes = if line.name.starts_with("limit") { " stroke-dasharray=\"5 4\"" } else { "" };
        let mut path = String::new();
        for (place, value) in line.values.iter().enumerate() {
            let Some(value) = value.filter(|value| *value > 0.0) else { continue };
            let begins = place == 0 || line.values[place - 1].is_none() || path.is_empty();
            let _ = write!(path, "{}{:.1} {:.1}", if begins { "M" } else { "L" }, x(place), y(value));
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{width}\" fill=\"{colour}\"/>",
                x(place),
                y(value)
            );
        }
        let _ =
            writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>");
        let (at, right) = (TOP + 8.0 + 20.0 * number as f64, WIDTH - RIGHT + 12.0);
        let _ = writeln!(svg, "<path d=\"M{right} {at}h20\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>");
        text(&mut svg, right + 26.0, at + 4.0, "start", line.name.trim_start_matches("limit: "));
    }
    svg + "</svg>\n"
}
