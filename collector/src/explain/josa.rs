//! Korean particles: 이/가, 을/를, 은/는, 과/와 and 으로/로 chosen by the last sound of the word before them.
//!
//! A Hangul syllable tells its final consonant by arithmetic; digits and Latin letters are taken as they are read aloud (UX §3.9).

/// How a word ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Vowel,
    Rieul,
    Consonant,
}

/// The word with the right one of a pair such as `이/가`.
pub fn with(word: &str, pair: &str) -> String {
    let (after_consonant, after_vowel) = pair.split_once('/').unwrap_or((pair, pair));
    let end = word.chars().rev().find(|c| c.is_alphanumeric()).map_or(End::Vowel, end);
    // 으로/로 treats a final ㄹ like a vowel.
    let consonant = end == End::Consonant || (end == End::Rieul && !after_consonant.starts_with('으'));
    format!("{word}{}", if consonant { after_consonant } else { after_vowel })
}

fn end(last: char) -> End {
    match last {
        '가'..='힣' => match (u32::from(last) - 0xAC00) % 28 {
            0 => End::Vowel,
            8 => End::Rieul,
            _ => End::Consonant,
        },
        // 일, 칠, 팔 end in ㄹ; 영, 삼, 육 in another consonant.
        '1' | '7' | '8' | 'l' | 'L' | 'r' | 'R' => End::Rieul,
        '0' | '3' | '6' | 'm' | 'M' | 'n' | 'N' => End::Consonant,
        _ => End::Vowel,
    }
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn particles_follow_the_last_sound() {
        for (word, pair, expected) in [
            ("온도", "이/가", "온도가"),
            ("전류값", "이/가", "전류값이"),
            ("습도", "을/를", "습도를"),
            ("v1", "으로/로", "v1로"),
            ("v3", "으로/로", "v3으로"),
            ("v2", "으로/로", "v2로"),
            ("서울", "으로/로", "서울로"),
            ("부산", "으로/로", "부산으로"),
            ("rpm", "은/는", "rpm은"),
            ("sensor (3)", "이/가", "sensor (3)이"),
            ("", "이/가", "가"),
        ] {
            assert_eq!(with(word, pair), expected);
        }
    }
}
