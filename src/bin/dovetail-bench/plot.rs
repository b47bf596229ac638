//! SVG pictures: plain and speculative decoding (speed by category, acceptance by depth), speedups of several ways, and
//! costs of passes by their rows.

use std::fmt::Write;

/// The flag of SVG files.
pub const PLOT: &str = "--plot";

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

/// An SVG of the speed in each category, and of the acceptance rate at each depth relative to the rounds that reach it.
pub fn svg(title: &str, categories: &[Bars], by_depth: &[f64]) -> String {
    let fastest = categories.iter().flat_map(|c| c.speeds).fold(f64::MIN_POSITIVE, f64::max);
    let second = LEFT + GROUP * categories.len() as f64 + 60.0;
    let (width, bottom) = (second + STEP * by_depth.len().max(3) as f64 + 40.0, TOP + HEIGHT);
    let mut out = begin(width, bottom + 40.0);
    let mut text =
        |x: f64, y: f64, anchor: &str, text: &str| write_text(&mut out, x, y, anchor, text);
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
    for (i, category) in categories.iter().enumerate() {
        for (nth, speed) in category.speeds.into_iter().enumerate() {
            let x = LEFT + GROUP * i as f64 + BAR * nth as f64;
            write_bar(&mut out, x, speed / fastest, COLOURS[nth]);
        }
    }
    for (i, share) in by_depth.iter().enumerate() {
        let x = second + STEP * (i as f64 + 0.5) - BAR / 2.0;
        write_bar(&mut out, x, *share, COLOURS[1]);
    }
    out + "</svg>\n"
}

/// The name of a way to decode, and its speedups over plain decoding: (categories).
pub type Speedups = (String, Vec<f64>);

/// An SVG of the speedups of all ways, side by side for each category, with a line at 1 and one for each published
/// figure.
pub fn speedups(
    title: &str,
    categories: &[&str],
    ways: &[Speedups],
    published: &[(String, f64)],
) -> String {
    let values = ways.iter().flat_map(|(_, times)| times.iter().copied());
    let top = values.chain(published.iter().map(|(_, times)| *times)).fold(1.0, f64::max);
    let group = BAR * (ways.len() as f64 + 1.5);
    let (bottom, right) = (TOP + HEIGHT, LEFT + group * categories.len() as f64);
    let mut out = begin(right.max(WIDTH) + 260.0, bottom + 30.0 + 14.0 * ways.len() as f64);
    write_text(&mut out, LEFT, 16.0, "start", title);
    write_text(&mut out, LEFT, 34.0, "start", "times plain decoding of as many at once");
    for (i, category) in categories.iter().enumerate() {
        let x = LEFT + group * i as f64;
        write_text(&mut out, x + group / 2.0 - BAR, bottom + 16.0, "middle", category);
        for (nth, (_, times)) in ways.iter().enumerate() {
            let x = x + BAR * nth as f64;
            write_bar(&mut out, x, times[i] / top, HUES[nth % HUES.len()]);
            let (x, y) = (x + BAR / 2.0, bottom - HEIGHT * times[i] / top - 4.0);
            write_text(&mut out, x, y, "middle", &format!("{:.1}", times[i]));
        }
    }
    for (nth, (name, _)) in ways.iter().enumerate() {
        let y = bottom + 36.0 + 14.0 * nth as f64;
        let colour = HUES[nth % HUES.len()];
        write_line(&mut out, &[(LEFT, y - 4.0), (LEFT + BAR, y - 4.0)], colour);
        write_text(&mut out, LEFT + BAR + 6.0, y, "start", name);
    }
    let plain = ("plain".to_owned(), 1.0);
    for (name, times) in [plain].iter().chain(published) {
        let y = bottom - HEIGHT * times / top;
        let line = [(LEFT - 8.0, y), (right, y)];
        write_line(&mut out, &line, &format!("{}\" stroke-dasharray=\"4 4", COLOURS[0]));
        write_text(&mut out, right + 6.0, y + 4.0, "start", &format!("{times:.2} {name}"));
    }
    out + "</svg>\n"
}

/// Costs of passes: a name, and for each number of rows the time relative to a pass over one row.
pub type Line<'a> = (&'a str, Vec<(usize, f64)>);

const WIDTH: f64 = 480.0; // of the panel of lines, and of others at least
const HUES: [&str; 8] =
    ["#2a6fb0", "#c0562b", "#3b8f5a", "#7a5bb0", "#b08a1f", "#4aa7b5", "#a03a6a", "#5c6b73"];

/// An SVG of the costs of passes by their rows, with the costs if rows shared nothing.
pub fn curves(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = points().map(|(rows, _)| *rows).max().unwrap_or(1).max(2) as f64;
    let top = points().map(|(_, times)| *times).fold(2.0, f64::max);
    let at = |rows: f64, times: f64| {
        (LEFT + WIDTH * (rows - 1.0) / (most - 1.0), TOP + HEIGHT * (1.0 - times / top))
    };
    let bottom = TOP + HEIGHT;
    let mut out = begin(LEFT + WIDTH + 40.0, bottom + 40.0);
    write_text(&mut out, LEFT, 16.0, "start", title);
    write_text(&mut out, LEFT, 34.0, "start", "times a pass of one row, by rows");
    for rows in (0..).map(|i| 1 << i).take_while(|rows| f64::from(*rows) <= most) {
        let (x, _) = at(f64::from(rows), 0.0);
        write_text(&mut out, x, bottom + 16.0, "middle", &rows.to_string());
    }
    for times in [1.0, top / 2.0, top] {
        let (_, y) = at(1.0, times);
        write_text(&mut out, LEFT - 8.0, y + 4.0, "end", &format!("{times:.1}"));
    }
    // The line ends where it leaves the panel.
    let end = most.min(top);
    let alone = [at(1.0, 1.0), at(end, end)];
    write_line(&mut out, &alone, &format!("{}\" stroke-dasharray=\"4 4", COLOURS[0]));
    write_text(&mut out, alone[1].0 + 6.0, alone[1].1 + 12.0, "start", "n");
    for (i, (name, points)) in lines.iter().enumerate() {
        let colour = HUES[i % HUES.len()];
        let points: Vec<_> = points.iter().map(|(rows, times)| at(*rows as f64, *times)).collect();
        write_line(&mut out, &points, colour);
        let y = bottom - 12.0 - 14.0 * i as f64;
        write_line(&mut out, &[(LEFT + WIDTH - 24.0, y - 4.0), (LEFT + WIDTH, y - 4.0)], colour);
        write_text(&mut out, LEFT + WIDTH - 30.0, y, "end", name);
    }
    out + "</svg>\n"
}

/// The words without folders, which would take the width of the picture.
pub fn title(words: &str) -> String {
    let words = words.split(' ').map(|word| word.rsplit('/').next().unwrap_or(word));
    words.collect::<Vec<_>>().join(" ")
}

fn begin(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    )
}

fn write_text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
        .expect("a string takes all");
}

/// A bar of this fraction of the panel's height.
fn write_bar(out: &mut String, x: f64, part: f64, colour: &str) {
    let height = part * HEIGHT;
    let y = TOP + HEIGHT - height;
    writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{BAR}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    )
    .expect("a string takes all");
}

fn write_line(out: &mut String, points: &[(f64, f64)], colour: &str) {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke-width=\"1.5\" stroke=\"{colour}\"/>",
        points.join(" ")
    )
    .expect("a string takes all");
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
        assert_eq!(heights(&svg), ["100.0", "200.0", "200.0", "150.0", "100.0"]);
        assert!(svg.contains(">a&lt;b<") && svg.contains(">2.00×<") && svg.contains(">0.75×<"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    /// The bounding box of all bars.
    fn heights(svg: &str) -> Vec<&str> {
        let numbers = svg.split("height=\"").skip(3);
        numbers.map(|rest| rest.split('"').next().expect("a quoted number")).collect()
    }

    #[test]
    fn ways_stand_side_by_side_under_published_figures() {
        let both = [("8 cost".to_owned(), vec![1.0, 2.0]), ("8 cast".to_owned(), vec![0.5, 3.0])];
        let svg = speedups("a title", &["qa", "rag"], &both, &[("a & b".to_owned(), 4.0)]);
        assert_eq!(heights(&svg), ["50.0", "25.0", "100.0", "150.0"]);
        assert!(svg.contains(">4.00 a &amp; b<") && svg.contains(">8 cast<"));
        // The line at 1 is a quarter of the panel above its bottom at 250.
        assert!(svg.contains("points=\"42.0,200.0"), "{svg}");
    }

    #[test]
    fn every_pass_is_a_point_of_its_line() {
        let lines = [("64 & 1", vec![(1, 1.0), (3, 2.0), (5, 4.0)]), ("2048", vec![(1, 1.0)])];
        let svg = curves("a title", &lines);
        let points: Vec<&str> = svg
            .split("points=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().expect("quoted points"))
            .collect();
        // From 50 to 530 for one to five rows, and from 250 to 50 for costs of zero to four.
        assert_eq!(points[0], "50.0,200.0 410.0,50.0", "n, as far as the panel goes");
        assert_eq!(points[1], "50.0,200.0 290.0,150.0 530.0,50.0");
        assert_eq!((points.len(), points[3]), (5, "50.0,200.0"));
        assert!(svg.contains(">64 &amp; 1<") && svg.ends_with("</svg>\n"));
        assert!(curves("nothing", &[]).contains("polyline"));
    }
}
