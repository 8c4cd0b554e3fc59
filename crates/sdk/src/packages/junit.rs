//! Reading the JUnit files that ctest and meson write: enough XML for names and verdicts.

use super::Outcome;

/// Sorts the test cases of a JUnit file into `outcome`.
pub(super) fn read(xml: &str, outcome: &mut Outcome) {
    // Each case runs from its tag to the next case's tag; `<` in the tests' own output is escaped.
    for case in xml.split("<testcase ").skip(1) {
        let name = attribute(case, "name").unwrap_or("unnamed").to_owned();
        let status = attribute(case, "status").unwrap_or("run");
        if case.contains("<failure") || case.contains("<error") || status == "fail" {
            outcome.failed.push(name);
        } else if case.contains("<skipped") || matches!(status, "notrun" | "disabled") {
            outcome.skipped.push(name);
        } else {
            outcome.passed.push(name);
        }
    }
}

/// Value of an attribute in the tag at the start of the text.
fn attribute<'xml>(tag: &'xml str, name: &str) -> Option<&'xml str> {
    let tag = &tag[..tag.find('>').unwrap_or(tag.len())];
    // The name stands at the start or behind a blank: `classname` is not `name`.
    let key = format!("{name}=\"");
    let start =
        tag.match_indices(&key).map(|(at, _)| at).find(|&at| at == 0 || tag.as_bytes()[at - 1] == b' ')?;
    let value = &tag[start + key.len()..];
    value.find('"').map(|end| &value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let xml = "<testsuites><testsuite name=\"s\">\
            <testcase name=\"good\" classname=\"x\" time=\"1\" />\
            <testcase classname=\"x\" name=\"ctest\" status=\"run\"><system-out>&lt;failure</system-out></testcase>\
            <testcase name=\"bad\"><failure message=\"\"/></testcase>\
            <testcase name=\"worse\" status=\"fail\"></testcase>\
            <testcase name=\"off\" status=\"disabled\"></testcase>\
            <testcase name=\"left\"><skipped/></testcase></testsuite></testsuites>";
        let mut outcome = Outcome::default();
        read(xml, &mut outcome);
        assert_eq!(outcome.passed, ["good", "ctest"]);
        assert_eq!(outcome.failed, ["bad", "worse"]);
        assert_eq!(outcome.skipped, ["off", "left"]);
    }

    #[test]
    fn rubbish_is_no_pass() {
        let mut outcome = Outcome::default();
        read("", &mut outcome);
        read("<testcase", &mut outcome);
        assert!(outcome.into_result().is_err());
    }
}
