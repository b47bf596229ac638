//! A picture of plain and speculative decoding: speed by category, acceptance by depth.

use std::fmt::Write;

/// One category.
pub struct Bars<'a> {
    pub name: &'a str,
    /// Tokens per second, plain and speculative.
    pub speeds: [f64; 2],
}

const HEIGHT: f64 = 200.0; // of both panels
const TOP: f64 = 50.0;
const BAR: f64 = 18.0;
const GROUP: f64 = 78.0;
const LEFT: f64 = 50.0;
const STEP: f64 = 36.0; // from depth to depth
const COLOURS: [&str; 2] = ["#9aa5b1", "#2a6fb0"];

/// An SVG file: bars of the categories, and the share of rounds that accept a guess at each depth, of
/// those that come to it.
pub fn svg(title: &str, categories: &[Bars], by_depth: &[f64]) -> String {
    let fastest = categories.iter().flat_map(|c| c.speeds).fold(f64::MIN_POSITIVE, f64::max);
    let second = LEFT + GROUP * categories.len() as f64 + 60.0;
    let (width, bottom) = (second + STEP * by_depth.len().max(3) as f64 + 40.0, TOP + HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        bottom + 40.0
    );
    let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
            .expect("a string takes all");
    };
    text(LEFT, 16.0, "start", title);
    text(LEFT, 34.0, "start", "tokens/s, plain and speculative, and the ratio");
    text(second, 34.0, "start", "accepted by depth, %");
    for (i, category) in categories.iter().enumerate() {
        let x = LEFT + GROUP * i as f64;
        let [plain, spec] = category.speeds;
        text(x + BAR, bottom + 16.0, "middle", category.name);
        text(x + BAR, bottom + 30.0, "middle", &format!("{:.2}×", spec / plain));
    }
    for (i, share) in by_depth.iter().enumerate() {
        let x = second + STEP * (i as f64 + 0.5);
        text(x, bottom + 16.0, "middle", &(i + 1).to_string());
        text(x, bottom - share * HEIGHT - 6.0, "middle", &format!("{:.0}", 100.0 * share));
    }
    let mut bar = |x: f64, share: f64, colour: &str| {
        let height = share * HEIGHT;
        let y = bottom - height;
        writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
        )
        .expect("a string takes all");
    };
    for (i, category) in categories.iter().enumerate() {
        for (nth, speed) in category.speeds.into_iter().enumerate() {
            let x = LEFT + GROUP * i as f64 + BAR * nth as f64;
            bar(x, speed / fastest, COLOURS[nth]);
        }
    }
    for (i, share) in by_depth.iter().enumerate() {
        bar(second + STEP * (i as f64 + 0.5) - BAR / 2.0, *share, COLOURS[1]);
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_a_bar_of_its_height() {
        let categories = [
            Bars { name: "a<b", speeds: [50.0, 100.0] },
            Bars { name: "qa", speeds: [100.0, 75.0] },
        ];
        let svg = svg("a title", &categories, &[0.5]);
        let heights: Vec<&str> = svg
            .split("height=\"")
            .skip(3)
            .map(|rest| rest.split('"').next().expect("a quoted number"))
            .collect();
        assert_eq!(heights, ["100.0", "200.0", "200.0", "150.0", "100.0"]);
        assert!(svg.contains(">a&lt;b<") && svg.contains(">2.00×<") && svg.contains(">0.75×<"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
