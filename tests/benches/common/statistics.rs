//! Statistics over rounds, and tables of them.

/// Prints lines of cells in aligned columns: the first to the left, the others to the right.
pub(crate) fn print_aligned(lines: &[Vec<String>]) {
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|column| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0)).collect();
    for cells in lines {
        let line: Vec<String> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("{}", line.join("  "));
    }
}

/// The median of ratios, each taken within a round; a dash where a round has none.
pub(crate) fn median_ratio(ratios: impl Iterator<Item = Option<f64>>) -> String {
    let ratios: Option<Vec<f64>> = ratios.collect();
    ratios.map_or_else(|| "-".to_owned(), |ratios| format!("{:.2}", median(ratios)))
}

/// The median of at least one value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// How far the extremes lie apart, relative to the median.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let highest = values.iter().copied().fold(f64::MIN, f64::max);
    let lowest = values.iter().copied().fold(f64::MAX, f64::min);
    (highest - lowest) / median(values.to_vec())
}

/// A number with a comma after each three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
