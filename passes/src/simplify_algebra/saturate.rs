//! The rules, applied.

use egg::Id;

use super::algebra::Algebra;
use super::rules;
use super::spelling::TermSpelling;

/// Applies all rules to all terms, until there are `most`; false when nothing new is equal.
pub(super) fn saturate_once(algebra: &mut Algebra, most: usize) -> bool {
    let mut classes: Vec<Id> = algebra.egraph.classes().map(|c| c.id).collect();
    classes.sort_unstable();
    let found: Vec<(Id, TermSpelling)> = classes
        .into_iter()
        .flat_map(|class| {
            let terms = algebra.egraph[class].nodes.iter();
            terms.flat_map(|term| rules::equal(&algebra.egraph, term)).map(move |s| (class, s)).collect::<Vec<_>>()
        })
        .collect();
    let mut changed = false;
    for (class, spelling) in found {
        if algebra.len() > most {
            break;
        }
        let new = algebra.build(spelling);
        // A spelling of another type is a rule's mistake; it is not believed.
        let same =
            algebra.egraph[new].data.ty.is_some() && algebra.egraph[new].data.ty == algebra.egraph[class].data.ty;
        changed |= same && algebra.egraph.union(class, new);
    }
    algebra.egraph.rebuild();
    changed
}
