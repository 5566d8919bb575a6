//! Along which axes patches may be mirrored.

/// Only the left-right axis is mirrored, and not even that where a class is told by its side: bodies are symmetric in
/// no other direction. (nnU-Net mirrors every axis.) One sided class is enough, because its organ on the other side
/// may be background. The sentence says why.
pub(super) fn mirror_axes<'a>(
    names: impl IntoIterator<Item = &'a str>,
    left_right: usize,
) -> (Vec<usize>, String) {
    let names: Vec<&str> = names.into_iter().collect();
    let generated = |name: &&str| name.strip_prefix("label_").is_some_and(is_number);
    if names.iter().skip(1).all(generated) {
        let reason = "No mirroring: classes without names may be told apart by their side.";
        return (Vec::new(), reason.into());
    }
    match names.into_iter().find(|name| names_a_side(name)) {
        Some(name) => {
            let reason = format!("No mirroring: the name of {name:?} tells its side.");
            (Vec::new(), reason)
        }
        None => {
            let reason = "Patches are mirrored left-right: no class is told apart by its side.";
            (vec![left_right], reason.into())
        }
    }
}

fn is_number(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// Whether a word of the name is a side; whole words, because `lobe` and `L1` are none. `KidneyLeft` is two words.
fn names_a_side(name: &str) -> bool {
    let mut spaced = String::new();
    for c in name.chars() {
        if c.is_uppercase() && spaced.ends_with(char::is_lowercase) {
            spaced.push(' ');
        }
        spaced.push(c);
    }
    spaced.split(|c: char| !c.is_alphanumeric()).any(|word| {
        ["l", "r", "lt", "rt", "lh", "rh", "left", "right"]
            .iter()
            .any(|side| word.eq_ignore_ascii_case(side))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(names: &[&str]) -> (Vec<usize>, String) {
        mirror_axes(names.iter().copied(), 2)
    }

    #[test]
    fn a_class_with_a_side_turns_mirroring_off() {
        for names in [
            &["lung_lobe_L", "lung_lobe_R"][..],
            &["kidney-L", "kidney-R"],
            &["L kidney", "R kidney"],
            &["kidney_left"],
            &["Right Kidney"],
            &["right_atrium"],
            &["KidneyLeft"],
            &["lh_cortex"],
        ] {
            let names = [&["background"], names].concat();
            let (axes, reason) = axes(&names);
            assert!(axes.is_empty(), "{names:?}");
            assert!(reason.contains(names[1]), "{reason}");
        }
    }

    #[test]
    fn classes_without_names_may_have_sides() {
        assert!(axes(&["background", "label_1", "label_2"]).0.is_empty());
        assert_eq!(axes(&["background", "label_1", "liver"]).0, [2]);
    }

    #[test]
    fn letters_within_a_word_are_no_side() {
        let names = [
            "background",
            "liver",
            "vertebra_L1",
            "renal_lobe",
            "bright_spot",
        ];
        assert_eq!(axes(&names).0, [2]);
    }
}
