//! Types that cannot be sent, as far as the source of the type shows it.

use syn::{Error, GenericArgument, PathArguments, Result, ReturnType, Type, TypeParamBound};

/// Refuses types that cannot be sent and read again. `role` names their values in the plural: "arguments".
///
/// An alias hides what it stands for: the generated code asserts the rest.
pub(crate) fn check(ty: &Type, role: &str) -> Result<()> {
    let refusal = if contains(ty, &|part| matches!(part, Type::Reference(_) | Type::Ptr(_))) {
        format!(
            "{role} travel over the broker, so they are owned: write `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`"
        )
    } else if contains(ty, &|part| matches!(part, Type::TraitObject(_))) {
        format!(
            "{role} travel over the broker, and a `dyn` type cannot be read again: write `String`, or a type of your own that \
             derives `Serialize` and `Deserialize`"
        )
    } else if contains(ty, &|part| matches!(part, Type::ImplTrait(_))) {
        format!("{role} travel over the broker, and a message has one type: write it out")
    } else {
        return Ok(());
    };
    Err(Error::new_spanned(ty, refusal))
}

/// Whether the type itself, or one that it is made of, is such a type.
fn contains(ty: &Type, such: &dyn Fn(&Type) -> bool) -> bool {
    let within = |ty: &Type| contains(ty, such);
    such(ty)
        || match ty {
            Type::Array(array) => within(&array.elem),
            Type::Group(group) => within(&group.elem),
            Type::Paren(paren) => within(&paren.elem),
            Type::Slice(slice) => within(&slice.elem),
            Type::Tuple(tuple) => tuple.elems.iter().any(within),
            Type::Path(path) => path.path.segments.iter().any(|segment| in_arguments(&segment.arguments, such)),
            _ => false,
        }
}

fn in_arguments(arguments: &PathArguments, such: &dyn Fn(&Type) -> bool) -> bool {
    match arguments {
        PathArguments::None => false,
        PathArguments::AngleBracketed(generic) => generic.args.iter().any(|argument| match argument {
            GenericArgument::Type(ty) => contains(ty, such),
            GenericArgument::AssocType(assigned) => contains(&assigned.ty, such),
            GenericArgument::Constraint(constraint) => constraint.bounds.iter().any(|bound| match bound {
                TypeParamBound::Trait(bound) => {
                    bound.path.segments.iter().any(|segment| in_arguments(&segment.arguments, such))
                }
                _ => false,
            }),
            _ => false,
        }),
        PathArguments::Parenthesized(function) => {
            let output = match &function.output {
                ReturnType::Default => None,
                ReturnType::Type(_, ty) => Some(&**ty),
            };
            function.inputs.iter().chain(output).any(|ty| contains(ty, such))
        }
    }
}
