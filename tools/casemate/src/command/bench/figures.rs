use idcperf::record::Record;
use std::path::Path;
pub struct Drawn;
pub fn draw_all(_: &[Record], _: &Path) -> anyhow::Result<Vec<Drawn>> {
    Ok(vec![])
}
