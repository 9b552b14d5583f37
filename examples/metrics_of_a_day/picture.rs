//! The picture, as SVG written by hand.

use std::fmt::Write;
use std::ops::Range;

use crate::day::{CLIENTS, MINUTES, OUTAGE};
use crate::readings::{self, Readings};

/// The colors of the clients, and of what is wrong.
const COLORS: [&str; 2] = ["#1a5fb4", "#0b8a6a"];
const RED: &str = "#c01c28";
const BAR_COLOR: &str = "#77767b";
const GREY: &str = "#5e5c64";
const INK: &str = "#241f31";

const WIDTH: f64 = 1200.0;
const HEIGHT: f64 = 1000.0;
const LEFT: f64 = 222.0;
const RIGHT: f64 = 1164.0;
const TOP: f64 = 132.0;
const BOTTOM: f64 = 946.0;
/// The minutes of one bar of token requests.
const BAR: u32 = 10;

/// Draws the day.
pub(crate) fn draw(readings: &Readings) -> String {
    let mut svg = Svg(String::new());
    svg.line(&format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif" font-size="14" fill="{INK}">"#
    ));
    svg.line("<title>A day of two clients, with an outage of the identity provider</title>");
    svg.line(&format!(
        r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##
    ));
    svg.text(
        LEFT,
        40.0,
        "font-size=\"24\" font-weight=\"600\"",
        "A day of two clients, as their metrics tell it",
    );
    svg.text(
        LEFT,
        64.0,
        &format!("fill=\"{GREY}\""),
        "Read once a minute. The daemon calls four APIs with tokens of one hour, and two with tokens of two hours.",
    );
    legend(&mut svg);
    outage(&mut svg);
    hours(&mut svg);
    remaining_lifetime(&mut svg, readings);
    refreshes(&mut svg, readings);
    token_requests(&mut svg, readings);
    circuit(&mut svg, readings);
    errors(&mut svg, readings);
    hits(&mut svg, readings);
    svg.line("</svg>");
    svg.0
}

fn legend(svg: &mut Svg) {
    let mut x = LEFT;
    for (client, color) in CLIENTS.iter().zip(COLORS) {
        svg.line(&format!(
            r#"<path d="M{x} 91h26" stroke="{color}" stroke-width="4"/>"#
        ));
        svg.text(x + 34.0, 96.0, "", client.name);
        x += 118.0;
    }
    svg.rect([x, 84.0, 14.0, 14.0], BAR_COLOR, "");
    svg.text(x + 22.0, 96.0, "", "token issued");
    x += 128.0;
    svg.rect([x, 84.0, 14.0, 14.0], RED, "");
    svg.text(x + 22.0, 96.0, "", "failed, or callers get errors");
    x += 232.0;
    svg.rect([x, 84.0, 14.0, 14.0], "#fbe3d6", "");
    svg.text(x + 22.0, 96.0, "", "identity provider down");
}

fn outage(svg: &mut Svg) {
    let (from, to) = (x(OUTAGE.start), x(OUTAGE.end));
    let area = [from, TOP - 12.0, to - from, BOTTOM - TOP + 12.0];
    svg.rect(area, "#fbe3d6", "class=\"outage\"");
    let style = format!("text-anchor=\"middle\" font-size=\"12\" fill=\"{RED}\"");
    let label = format!("down {} to {}", time(OUTAGE.start), time(OUTAGE.end));
    svg.text((from + to) / 2.0, TOP - 18.0, &style, &label);
}

fn hours(svg: &mut Svg) {
    for hour in (0..=24).step_by(2) {
        let at = x(hour * 60);
        svg.line(&format!(
            r##"<path d="M{at:.1} {TOP}V{BOTTOM}" stroke="#deddda" stroke-width="1"/>"##
        ));
        let label = format!("{hour:02}:00");
        svg.text(at, BOTTOM + 24.0, "text-anchor=\"middle\"", &label);
    }
    let end = "text-anchor=\"end\" fill=\"#5e5c64\"";
    svg.text(RIGHT, BOTTOM + 44.0, end, "time of day");
}

fn remaining_lifetime(svg: &mut Svg, readings: &Readings) {
    let panel = Panel::new(
        svg,
        TOP..390.0,
        120.0,
        ["Shortest remaining", "lifetime of a", "token in use"],
    );
    for mark in [0, 30, 60, 90, 120] {
        panel.mark(svg, f64::from(mark), &format!("{mark} min"));
    }
    for (client, color) in CLIENTS.iter().zip(COLORS) {
        let seconds = readings.of(client.name, readings::REMAINING);
        let minutes: Vec<f64> = seconds.iter().map(|seconds| seconds / 60.0).collect();
        panel.curve(svg, &minutes, color, "class=\"lifetime\"");
    }
    for client in &CLIENTS {
        let unavailable = readings.of(client.name, readings::UNAVAILABLE);
        let Some(errors) = span(unavailable) else {
            continue;
        };
        let (from, to, y) = (x(errors.start), x(errors.end), panel.y(0.0));
        svg.line(&format!(
            r#"<path class="errors" d="M{from:.1} {y:.1}H{to:.1}" stroke="{RED}" stroke-width="7" stroke-linecap="round"/>"#
        ));
    }
}

fn refreshes(svg: &mut Svg, readings: &Readings) {
    label(svg, 434.0, ["Tokens refreshed", "in the background"]);
    for (row, (client, color)) in CLIENTS.iter().zip(COLORS).enumerate() {
        let y = 430.0 + 28.0 * row as f64;
        lane(svg, y, client.name);
        let refreshed = readings.of(client.name, readings::REFRESHED);
        ticks(svg, y, refreshed, color, "class=\"refreshes\"");
    }
}

fn token_requests(svg: &mut Svg, readings: &Readings) {
    let bars = |figure| -> Vec<f64> {
        let of_clients = CLIENTS.map(|client| readings.of(client.name, figure).to_vec());
        let bars = (0..MINUTES).step_by(BAR as usize).map(|from| {
            let minutes = from as usize..(from + BAR) as usize;
            let of_client = |series: &Vec<f64>| {
                series
                    .get(minutes.clone())
                    .map(<[f64]>::iter)
                    .into_iter()
                    .flatten()
                    .sum::<f64>()
            };
            of_clients.iter().map(of_client).sum()
        });
        bars.collect()
    };
    let (issued, failed) = (bars(readings::ISSUED), bars(readings::FAILED));
    let most = issued.iter().zip(&failed).map(|(one, other)| one + other);
    let most = nice(most.fold(1.0, f64::max));
    let panel = Panel::new(
        svg,
        520.0..634.0,
        most,
        ["Token requests", "in 10 minutes", ""],
    );
    panel.mark(svg, 0.0, "0");
    panel.mark(svg, most / 2.0, &format!("{}", most / 2.0));
    panel.mark(svg, most, &format!("{most}"));
    let mut paths = [String::new(), String::new()];
    for (bar, (issued, failed)) in issued.iter().zip(&failed).enumerate() {
        let (from, width) = (x(bar as u32 * BAR) + 0.8, x(BAR) - x(0) - 1.6);
        let [ok, wrong] = &mut paths;
        let (base, middle) = (panel.y(0.0), panel.y(*issued));
        if *issued > 0.0 {
            let _ = write!(ok, "M{from:.1} {base:.1}V{middle:.1}h{width:.1}V{base:.1}z");
        }
        if *failed > 0.0 {
            let top = panel.y(issued + failed);
            let _ = write!(
                wrong,
                "M{from:.1} {middle:.1}V{top:.1}h{width:.1}V{middle:.1}z"
            );
        }
    }
    let [ok, wrong] = paths;
    svg.line(&format!(
        r##"<path class="issued" d="{ok}" fill="{BAR_COLOR}"/>"##
    ));
    svg.line(&format!(
        r#"<path class="failed" d="{wrong}" fill="{RED}"/>"#
    ));
}

fn circuit(svg: &mut Svg, readings: &Readings) {
    label(svg, 684.0, ["Circuit breaker open"]);
    spans(svg, 680.0, readings, readings::OPEN, "class=\"open\"");
}

fn errors(svg: &mut Svg, readings: &Readings) {
    label(svg, 758.0, ["Callers get errors"]);
    spans(
        svg,
        754.0,
        readings,
        readings::UNAVAILABLE,
        "class=\"unavailable\"",
    );
}

/// Draws a lane for each client, with a bar from the first to the last value above zero.
fn spans(svg: &mut Svg, y: f64, readings: &Readings, figure: &'static str, class: &str) {
    for (row, client) in CLIENTS.iter().enumerate() {
        let y = y + 28.0 * row as f64;
        lane(svg, y, client.name);
        svg.line(&format!(
            r##"<path d="M{LEFT} {y}H{RIGHT}" stroke="#c0bfbc" stroke-width="2"/>"##
        ));
        let style = format!("font-size=\"13\" fill=\"{GREY}\"");
        let at = x(OUTAGE.end) + 12.0;
        match span(readings.of(client.name, figure)) {
            Some(minutes) => {
                let (from, to) = (x(minutes.start), x(minutes.end));
                svg.rect([from, y - 8.0, to - from, 16.0], RED, class);
                let label = format!("{} to {}", time(minutes.start), time(minutes.end));
                svg.boxed(at, y + 5.0, &style, &label);
            }
            None => svg.boxed(at, y + 5.0, &style, "never"),
        }
    }
}

fn hits(svg: &mut Svg, readings: &Readings) {
    let per_second = |figure| -> Vec<Vec<f64>> {
        let series = CLIENTS
            .iter()
            .map(|client| readings.of(client.name, figure));
        series
            .map(|series| series.iter().map(|count| count / 60.0).collect())
            .collect()
    };
    let (hits, misses) = (per_second(readings::HITS), per_second(readings::MISSES));
    let sums = |upto: usize| -> Vec<f64> {
        let minutes = 0..MINUTES as usize;
        let sum = |minute: usize| {
            hits.iter()
                .take(upto)
                .filter_map(|series| series.get(minute))
                .sum()
        };
        minutes.map(sum).collect()
    };
    let all = sums(CLIENTS.len());
    let most = nice(all.iter().copied().fold(1.0, f64::max));
    let panel = Panel::new(
        svg,
        826.0..BOTTOM,
        most,
        ["Cache hits", "per second,", "calls without a token"],
    );
    for mark in 0..=4 {
        let mark = most * f64::from(mark) / 4.0;
        panel.mark(svg, mark, &format!("{mark}"));
    }
    // From the back to the front: both clients, then the first.
    for (upto, color) in COLORS.iter().enumerate().rev() {
        panel.area(svg, &smooth(&sums(upto + 1)), color, "class=\"hits\"");
    }
    let failing: Vec<f64> = (0..MINUTES as usize)
        .map(|minute| {
            misses
                .iter()
                .filter_map(|series| series.get(minute))
                .sum::<f64>()
        })
        .collect();
    panel.area(svg, &failing, RED, "class=\"misses\"");
}

/// The part of the picture with an axis of its own.
struct Panel {
    area: Range<f64>,
    most: f64,
}

impl Panel {
    fn new(svg: &mut Svg, area: Range<f64>, most: f64, name: [&str; 3]) -> Self {
        label(svg, area.start + 14.0, name);
        Self { area, most }
    }

    fn y(&self, value: f64) -> f64 {
        self.area.end - (self.area.end - self.area.start) * (value / self.most).clamp(0.0, 1.0)
    }

    fn mark(&self, svg: &mut Svg, value: f64, text: &str) {
        let y = self.y(value);
        svg.line(&format!(
            r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#deddda" stroke-width="1"/>"##
        ));
        let style = format!("text-anchor=\"end\" font-size=\"12\" fill=\"{GREY}\"");
        svg.text(LEFT - 8.0, y + 4.0, &style, text);
    }

    /// Draws a line through the values, with gaps where there is none.
    fn curve(&self, svg: &mut Svg, values: &[f64], color: &str, class: &str) {
        let path = self.path(values);
        svg.line(&format!(
            r#"<path {class} d="{path}" fill="none" stroke="{color}" stroke-width="2.5" stroke-linejoin="round"/>"#
        ));
    }

    fn area(&self, svg: &mut Svg, values: &[f64], color: &str, class: &str) {
        let (path, base) = (self.path(values), self.y(0.0));
        svg.line(&format!(
            r#"<path {class} d="{path}V{base:.1}H{LEFT}z" fill="{color}"/>"#
        ));
    }

    /// Leaves points out that lie on the line between their neighbours.
    fn path(&self, values: &[f64]) -> String {
        let mut path = String::new();
        let point = |path: &mut String, command: char, minute: usize, value: f64| {
            let _ = write!(
                path,
                "{command}{:.1} {:.1}",
                x(minute as u32),
                self.y(value)
            );
        };
        let mut from = 0;
        while let Some(start) = values.get(from).copied() {
            if start.is_nan() {
                from += 1;
                continue;
            }
            if from == 0 || values.get(from - 1).is_none_or(|before| before.is_nan()) {
                point(&mut path, 'M', from, start);
            }
            let lies_on_line = |to: &usize| self.is_straight(values.get(from..=*to));
            let Some(to) = (from + 1..values.len()).take_while(lies_on_line).last() else {
                from += 1;
                continue;
            };
            if let Some(end) = values.get(to).copied() {
                point(&mut path, 'L', to, end);
            }
            from = to;
        }
        path
    }

    /// Returns `true` if all values are within half a pixel of the line between the ends.
    fn is_straight(&self, values: Option<&[f64]>) -> bool {
        let Some([start, .., end]) = values else {
            return false;
        };
        let (values, start, end) = (values.unwrap_or_default(), self.y(*start), self.y(*end));
        let steps = (values.len() - 1) as f64;
        let on_line = |at: usize| start + (end - start) * at as f64 / steps;
        // A value that is missing is not on the line.
        let mut values = values.iter().enumerate();
        values.all(|(at, value)| !value.is_nan() && (self.y(*value) - on_line(at)).abs() <= 0.5)
    }
}

struct Svg(String);

impl Svg {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        self.line(&format!(
            r#"<text x="{x:.1}" y="{y:.1}" {style}>{text}</text>"#
        ));
    }

    /// Writes text with a background, on a line.
    fn boxed(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let width = 6.4 * text.len() as f64 + 12.0;
        self.rect([x - 6.0, y - 12.0, width, 16.0], "#ffffff", "");
        self.text(x, y, style, text);
    }

    fn rect(&mut self, [x, y, width, height]: [f64; 4], color: &str, style: &str) {
        self.line(&format!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{color}" {style}/>"#
        ));
    }
}

fn label<const LINES: usize>(svg: &mut Svg, y: f64, lines: [&str; LINES]) {
    for (line, text) in lines
        .iter()
        .enumerate()
        .filter(|(_, text)| !text.is_empty())
    {
        svg.text(
            12.0,
            y + 18.0 * line as f64,
            "font-weight=\"600\" font-size=\"13\"",
            text,
        );
    }
}

fn lane(svg: &mut Svg, y: f64, name: &str) {
    let style = format!("text-anchor=\"end\" font-size=\"12\" fill=\"{GREY}\"");
    svg.text(LEFT - 8.0, y + 4.0, &style, name);
}

fn ticks(svg: &mut Svg, y: f64, counts: &[f64], color: &str, class: &str) {
    let mut path = String::new();
    for (minute, _) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
        let _ = write!(path, "M{:.1} {:.1}v18", x(minute as u32), y - 9.0);
    }
    svg.line(&format!(
        r#"<path {class} d="{path}" stroke="{color}" stroke-width="2.5"/>"#
    ));
}

fn x(minute: u32) -> f64 {
    LEFT + (RIGHT - LEFT) * f64::from(minute) / f64::from(MINUTES)
}

/// Returns the minutes from the first to the last value above zero.
fn span(values: &[f64]) -> Option<Range<u32>> {
    let first = values.iter().position(|value| *value > 0.0)?;
    let last = values.iter().rposition(|value| *value > 0.0)?;
    Some(u32::try_from(first).ok()?..u32::try_from(last).ok()? + 1)
}

fn smooth(values: &[f64]) -> Vec<f64> {
    let mean = |window: &[f64]| window.iter().sum::<f64>() / window.len() as f64;
    let around = |at: usize| values.get(at.saturating_sub(2)..(at + 3).min(values.len()));
    (0..values.len())
        .map(|at| around(at).map_or(0.0, mean))
        .collect()
}

/// Rounds up to a number for an axis.
fn nice(most: f64) -> f64 {
    let steps = [2.0, 4.0, 8.0, 12.0, 16.0, 20.0, 40.0, 60.0, 80.0];
    steps.into_iter().find(|step| *step >= most).unwrap_or(most)
}

fn time(minute: u32) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}
