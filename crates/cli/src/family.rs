//! An instance and what it has started.

use partitura_admin::{Admin, text};

use crate::args::{Format, Instance, Tree};
use crate::failure::Failure;
use crate::output::Out;

pub(crate) async fn tree(admin: &Admin, asked: &Tree, out: &mut Out<'_>) -> Result<(), Failure> {
    let Instance { workflow, id } = &asked.instance;
    let family = admin.family(workflow, id, asked.depth).await?;
    let now = admin.now();
    match out.format {
        Format::Json => return out.json(&family),
        Format::Ids => return family.members.iter().try_for_each(|member| out.line(&member.summary.id)),
        Format::Table => {}
    }
    let row = |member: &partitura_admin::Member| {
        let summary = &member.summary;
        let name = format!("{}{}/{}", "  ".repeat(member.depth), summary.workflow, summary.id);
        let cause = summary.status.reason().map_or_else(String::new, |reason| text::cause(reason, 100));
        vec![summary.status.name().to_owned(), name, text::relative(summary.started_at, now), cause]
    };
    let rows: Vec<_> = family.members.iter().map(row).collect();
    out.table(&["status", "instance", "started", "cause"], &rows)?;
    match family.is_capped {
        true => out.line("there are others: name a lower --depth, or look at a child's own tree"),
        false => Ok(()),
    }
}
