//! Ops with regions. Captures are names from outside, so they are not inputs of the subgraph.

use optc_ir::ops::cf;

use super::spelling::spell;
use super::{Exporter, Names, Site, info};
use crate::Diagnostic;
use crate::proto::GraphProto;

impl Exporter {
    /// Region `i` as a subgraph whose first `own` parameters are inputs and whose others are called as the operands
    /// from `captures` on.
    fn subgraph(&mut self, site: &Site, i: usize, own: usize, captures: usize) -> Result<GraphProto, Diagnostic> {
        let missing = || Diagnostic::new("export", "a region is missing");
        let region = site.node.regions.get(i).ok_or_else(missing)?;
        self.open();
        let (mut names, mut input) = (Names::new(), vec![]);
        for (k, param) in region.inputs().enumerate() {
            let name = if k < own {
                let name = self.names.unique(region.input_name(param).unwrap_or_default());
                input.push(info(&name, region.ty(param)));
                name
            } else {
                site.operand(captures + k - own)
            };
            names.insert(param, name);
        }
        let outputs = region.outputs.iter().map(|output| self.names.unique(&output.name)).collect();
        Ok(GraphProto { input, ..self.body(region, names, outputs)? })
    }

    pub(super) fn branch(&mut self, site: &Site) -> Result<(), Diagnostic> {
        let (yes, no) = (self.subgraph(site, 0, 0, 1)?, self.subgraph(site, 1, 0, 1)?);
        let spelling = spell("If").graph("then_branch", yes).graph("else_branch", no);
        self.write(spelling, vec![site.operand(0)], site.results.clone(), &site.node.loc);
        Ok(())
    }

    pub(super) fn repeat(&mut self, op: &cf::Loop, site: &Site) -> Result<(), Diagnostic> {
        let own = 2 + usize::try_from(op.carried).unwrap_or(0);
        let body = self.subgraph(site, 0, own, own)?;
        let operands = site.operands.iter().take(own).cloned().collect();
        self.write(spell("Loop").graph("body", body), operands, site.results.clone(), &site.node.loc);
        Ok(())
    }

    pub(super) fn scan(&mut self, op: &cf::Scan, site: &Site) -> Result<(), Diagnostic> {
        let own = usize::try_from(op.states.saturating_add(op.scanned)).unwrap_or(0);
        let body = self.subgraph(site, 0, own, own)?;
        let spelling = spell("Scan").since(9).graph("body", body).int("num_scan_inputs", op.scanned);
        let (inputs, outputs) = (own, site.results.len());
        // A list that is shorter than the operands means 0 for the rest; ONNX wants it whole.
        let whole = |list: &[i64], len: usize| {
            let mut list = list.to_vec();
            if !list.is_empty() {
                list.resize(len, 0);
            }
            list
        };
        let states = usize::try_from(op.states).unwrap_or(0);
        let spelling = spelling
            .ints("scan_input_axes", &whole(&op.input_axes, inputs - states))
            .ints("scan_input_directions", &whole(&op.input_reversed, inputs - states))
            .ints("scan_output_axes", &whole(&op.output_axes, outputs.saturating_sub(states)))
            .ints("scan_output_directions", &whole(&op.output_reversed, outputs.saturating_sub(states)));
        let operands = site.operands.iter().take(own).cloned().collect();
        self.write(spelling, operands, site.results.clone(), &site.node.loc);
        Ok(())
    }
}
