//! Markdown tables with goals and verdicts.

pub(crate) struct Table<const N: usize>(Vec<[String; N]>);

impl<const N: usize> Table<N> {
    pub(crate) fn new(titles: [&str; N]) -> Self {
        let rule = titles.map(|title| match title {
            "ns" | "ratio" | "instructions" | "allocations" | "bytes" | "requests" => "---:",
            _ => "---",
        });
        Self(vec![titles.map(str::to_owned), rule.map(str::to_owned)])
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.0.push(cells);
    }

    pub(crate) fn print(&self) {
        for row in &self.0 {
            println!("| {} |", row.join(" | "));
        }
        println!();
    }
}

pub(crate) fn verdict(met: bool) -> String {
    match met {
        true => "met".to_owned(),
        false => "**missed**".to_owned(),
    }
}
