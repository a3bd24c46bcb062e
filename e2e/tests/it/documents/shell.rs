//! As much of a shell's grammar as the documents use.

/// The commands of a line, each as its words: what `|`, `;` and `&` separate. Comments and
/// redirections are left out; what is substituted is taken as it is written.
pub(super) fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut is_word) = (String::new(), false);
    let (mut quote, mut depth) = (None, 0_u32);
    let end_word = |word: &mut String, is_word: &mut bool, commands: &mut Vec<Vec<String>>| {
        if std::mem::take(is_word) {
            commands.last_mut().unwrap().push(std::mem::take(word));
        }
    };
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (None, '(') => {
                depth += 1;
                word.push(c);
            }
            (None, ')') => {
                depth = depth.saturating_sub(1);
                word.push(c);
            }
            (None, c) if depth > 0 => word.push(c),
            (None, '#') if !is_word => break,
            (None, '|' | ';' | '&') => {
                end_word(&mut word, &mut is_word, &mut commands);
                commands.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => end_word(&mut word, &mut is_word, &mut commands),
            (None, c) => {
                is_word = true;
                word.push(c);
            }
        }
    }
    end_word(&mut word, &mut is_word, &mut commands);
    commands.iter_mut().for_each(without_redirections);
    commands.retain(|words| !words.is_empty());
    commands
}

/// Leaves out `> FILE`, `2>&1` and the like, and variables that are set before a command.
fn without_redirections(words: &mut Vec<String>) {
    let is_redirection = |word: &str| matches!(word, ">" | ">>" | "<" | "2>");
    while let Some(at) = words.iter().position(|word| is_redirection(word)) {
        words.drain(at..(at + 2).min(words.len()));
    }
    let is_variable = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        })
    };
    let variables = words.iter().take_while(|word| is_variable(word)).count();
    words.drain(..variables);
}

#[test]
fn a_line_is_cut_as_a_shell_cuts_it() {
    let cut = |line: &str| -> Vec<String> {
        commands(line).iter().map(|words| words.join("+")).collect()
    };
    assert_eq!(cut("a -b 'c d' \"e\"  # f 'g"), ["a+-b+c d+e"]);
    assert_eq!(cut("A=1 a > f | b && c; d 2> g"), ["a", "b", "c", "d"]);
    assert_eq!(cut("a x=$(b | c) y"), ["a+x=$(b | c)+y"]);
    assert_eq!(cut("# nothing"), Vec::<String>::new());
}
