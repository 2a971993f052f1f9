//! `assign-layout`: choose how the elements of each tensor lie in memory, for the fewest bytes moved.
//!
//! ```optc
//! // passes: assign-layout{to=nhwc}
//! given %x: tensor<1x4x6x6xf32>, %w: tensor<8x4x1x1xf32>
//! %0 = nn.conv %x, %w : tensor<1x8x6x6xf32>
//! %1 = math.relu %0 : tensor<1x8x6x6xf32>
//! %2 = math.reduce %1 {axes = [2, 3], kind = "mean"} : tensor<1x8x1x1xf32>
//! ```
//! becomes
//! ```optc
//! given %x: tensor<1x4x6x6xf32>, %w: tensor<8x4x1x1xf32>
//! %0 = kernel.convert_layout %x : tensor<1x4x6x6xf32, nhwc>
//! %1 = nn.conv %0, %w : tensor<1x8x6x6xf32, nhwc>
//! %2 = math.relu %1 : tensor<1x8x6x6xf32, nhwc>
//! %3 = math.reduce %2 {axes = [2, 3], kind = "mean"} : tensor<1x8x1x1xf32>
//! ```
//!
//! Why: with channels last each tap of a convolution's window is a matrix product on contiguous memory.
//!
//! Dense convolutions and pools want channels last ([`roles`] says what each op wants); sparse convolutions (`to-bcsr`)
//! are plain, or dense again where that is cheaper with all conversions; depthwise convolutions come in both layouts;
//! elementwise ops take what their operands have; all others, inputs and outputs are plain. A value that is read in the
//! other layout is converted once, at the cost of its bytes; one whose bytes are the same in both (one channel, or one
//! place) stays plain for all. A transpose that only renames the layout is free on that path. The cheapest choice for
//! the whole graph is a minimum cut: plain on the source's side, channels last on the sink's (Boykov, Veksler and Zabih
//! 2001).
//!
//! Never touches constants, whose layout is up to packing. Forgets the encodings of an earlier run. With `to=plain`
//! it only does that. Expects inferred types; an unknown extent counts as 1.

mod network;
mod roles;

use std::collections::{BTreeMap, HashMap};

use optc_ir::ops::kernel::ConvertLayout;
use optc_ir::{Encoding, Graph, NodeId, Op, Type, Value};

use crate::matching::{result, tensor_type};
use crate::rewrite::for_each_region;
use crate::to_bcsr::set_encoding;
use crate::{Numerics, OptionError, Pass, PassArguments, PassCx, PassError};
use network::{LayoutSlot, Network};
use roles::{LayoutRole, role};

/// See the module.
pub struct AssignLayout {
    to: Encoding,
}

impl Pass for AssignLayout {
    const NAME: &'static str = "assign-layout";
    const SUMMARY: &'static str = "choose layouts for the fewest bytes moved: `{to=nhwc}`, or `{to=plain}` to forget \
        them";
    const NUMERICS: Numerics = Numerics::BitExact;

    fn from_options(options: &mut PassArguments) -> Result<AssignLayout, OptionError> {
        let to = match options.take("to", "nhwc".to_owned())?.as_str() {
            "nhwc" => Encoding::Nhwc,
            "plain" => Encoding::Plain,
            other => {
                let reason = format!("`{other}` is not `nhwc` or `plain`");
                return Err(OptionError { key: "to".to_owned(), reason });
            }
        };
        Ok(AssignLayout { to })
    }

    fn run(&self, graph: &mut Graph, cx: &mut PassCx) -> Result<(), PassError> {
        erase(graph);
        if self.to == Encoding::Nhwc {
            assign(graph, cx);
        }
        for_each_region(graph, &mut |region| self.run(region, cx))
    }
}

/// Makes every encoding but those of constants plain, and drops the conversions between them.
fn erase(graph: &mut Graph) {
    for id in graph.ids().collect::<Vec<NodeId>>() {
        if let Op::ConvertLayout(_) = graph.node(id).op
            && let Some(x) = graph.operand(id, 0)
        {
            graph.replace_uses(result(id), x);
            graph.remove(id);
            continue;
        }
        if let Op::Fused(_) = graph.node(id).op {
            erase_fused(graph, id);
        }
        let node = graph.node_mut(id);
        if matches!(node.op, Op::Constant(_)) {
            continue;
        }
        for info in &mut node.results {
            if let Type::Tensor(t) = &mut info.ty {
                t.encoding = Encoding::Plain;
            }
        }
    }
}

/// The same in the region of a fused op. Its parameters stay typed as the operands are.
fn erase_fused(graph: &mut Graph, id: NodeId) {
    let constant = |v: Value| graph.constant(v).is_some().then(|| graph.ty(v).clone());
    let kept: Vec<Option<Type>> = graph.node(id).operands.iter().map(|v| v.and_then(constant)).collect();
    for region in &mut graph.node_mut(id).regions {
        erase(region);
        for (param, ty) in region.inputs().collect::<Vec<_>>().into_iter().zip(&kept) {
            if let Some(ty) = ty {
                region.node_mut(param.node).results[0].ty.clone_from(ty);
            }
        }
    }
}

/// Chooses the layouts and puts the conversions in.
fn assign(graph: &mut Graph, cx: &mut PassCx) {
    let order = graph.topological_order().unwrap_or_default();
    let roles: BTreeMap<NodeId, LayoutRole> = order.iter().map(|&id| (id, role(graph, id, cx.machine()))).collect();
    let mut network = Network::default();
    let labels: HashMap<NodeId, (LayoutSlot, LayoutSlot)> =
        order.iter().map(|&id| (id, network.op(&roles[&id], graph, id))).collect();
    for &id in &order {
        for value in (0..graph.node(id).results.len()).map(|r| Value { node: id, result: r as u32 }) {
            if has_layout(graph, value) {
                let readers: Vec<LayoutSlot> = readers(graph, value, &roles).map(|(id, _)| labels[&id].0).collect();
                let is_output = graph.is_output(value).then_some(LayoutSlot::PLAIN);
                for (reader, _) in self::readers(graph, value, &roles).filter(|(r, _)| roles[r] == LayoutRole::Follows)
                {
                    network.prefer(labels[&id].1, labels[&reader].0);
                }
                network.value(labels[&id].1, &[readers, is_output.into_iter().collect()].concat(), bytes(graph, value));
            }
        }
    }
    let chosen = network.cut();
    let encoding = |label: LayoutSlot| if chosen.is_sink_side(label) { Encoding::Nhwc } else { Encoding::Plain };
    for &id in &order {
        if encoding(labels[&id].1) == Encoding::Nhwc && cx.permit("nhwc") {
            make_channels_last(graph, id);
            // A convolution that has its channels last is a dense one, or in blocks of several columns.
            if let (Op::Conv(_) | Op::QuantConv(_), Some(weights)) = (&graph.node(id).op, graph.operand(id, 1))
                && let Some(Encoding::Bcsr { cols: 1, .. }) = tensor_type(graph, weights).map(|t| t.encoding)
            {
                set_encoding(graph, weights, Encoding::Plain);
            }
        }
    }
    for &id in &order {
        for value in (0..graph.node(id).results.len()).map(|r| Value { node: id, result: r as u32 }) {
            if has_layout(graph, value) {
                let wanted: Vec<(NodeId, usize, Encoding)> =
                    readers(graph, value, &roles).map(|(id, slot)| (id, slot, encoding(labels[&id].0))).collect();
                convert(graph, value, &wanted, cx);
            }
        }
    }
}

/// Whether a value's layout is a choice: a tensor of several channels and several places, and no constant.
fn has_layout(graph: &Graph, value: Value) -> bool {
    let rank = graph.ty(value).as_tensor().and_then(|t| t.rank());
    rank.is_some_and(|r| Encoding::Nhwc.fits(r)) && graph.constant(value).is_none() && bytes(graph, value) > 0
}

/// The uses of a value whose layout matters to the user.
fn readers<'a>(
    graph: &'a Graph,
    value: Value,
    roles: &'a BTreeMap<NodeId, LayoutRole>,
) -> impl Iterator<Item = (NodeId, usize)> + 'a {
    graph.uses(value).into_iter().filter(|(id, slot)| roles.get(id).is_some_and(|r| r.reads(*slot)))
}

/// The bytes that a conversion moves: none where both layouts are the same bytes.
fn bytes(graph: &Graph, value: Value) -> u64 {
    let Some(t) = graph.ty(value).as_tensor() else { return 0 };
    let extents: Vec<u64> = t.shape.iter().flatten().map(|d| d.known().unwrap_or(1) as u64).collect();
    let (channels, spatial) = (extents.get(1).copied().unwrap_or(1), extents.iter().skip(2).product::<u64>());
    match channels == 1 || spatial == 1 {
        true => 0,
        false => (extents.iter().product::<u64>() * t.dtype.bits() as u64 / 8).max(1),
    }
}

/// Makes the results of a node channels-last, where that is another order of the bytes.
fn make_channels_last(graph: &mut Graph, id: NodeId) {
    for result in 0..graph.node(id).results.len() {
        let value = Value { node: id, result: result as u32 };
        if has_layout(graph, value)
            && let Type::Tensor(t) = &mut graph.node_mut(id).results[result].ty
        {
            t.encoding = Encoding::Nhwc;
        }
    }
}

/// Puts a conversion between a value and the readers that want it in another encoding; the outputs want it plain.
fn convert(graph: &mut Graph, value: Value, wanted: &[(NodeId, usize, Encoding)], cx: &mut PassCx) {
    let Some(have) = graph.ty(value).as_tensor().map(|t| t.encoding) else { return };
    let other = if have == Encoding::Plain { Encoding::Nhwc } else { Encoding::Plain };
    let differ: Vec<_> = wanted.iter().filter(|(_, _, w)| *w != have).collect();
    let output = have != Encoding::Plain && graph.is_output(value);
    if (differ.is_empty() && !output) || !cx.permit("convert") {
        return;
    }
    let Some(ty) = graph.ty(value).as_tensor().map(|t| t.clone().with_encoding(other)) else { return };
    let converted = result(graph.add(ConvertLayout {}, &[Some(value)], vec![ty.into()]));
    graph.node_mut(converted.node).loc = graph.node(value.node).loc.clone();
    for (id, slot, _) in differ {
        graph.set_operand(*id, *slot, Some(converted));
    }
    if output {
        graph.outputs.replace(value, converted);
    }
}
