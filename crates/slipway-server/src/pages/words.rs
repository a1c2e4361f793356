//! The words of the pages in English and Japanese.
//!
//! The English word is the key; a word that is not in the table stays English.

/// The language of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// The default.
    English,
    /// Where the reader prefers it.
    Japanese,
}

impl Language {
    /// The language that an `Accept-Language` header prefers among ours.
    #[must_use]
    pub(crate) fn preferred(accept: Option<&str>) -> Self {
        let mut best = (0.0_f32, Self::English);
        for part in accept.unwrap_or_default().split(',').take(20) {
            let mut fields = part.split(';');
            let tag = fields.next().unwrap_or_default().trim();
            let language = match tag.split('-').next() {
                Some("ja") => Self::Japanese,
                Some("en") => Self::English,
                _ => continue,
            };
            let weight = fields
                .find_map(|field| field.trim().strip_prefix("q="))
                .map_or(1.0, |text| text.parse().unwrap_or(0.0));
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }

    /// The `lang` attribute.
    #[must_use]
    pub(crate) const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// A word in this language.
    #[must_use]
    pub(crate) fn word(self, english: &'static str) -> &'static str {
        match self {
            Self::English => english,
            Self::Japanese => JAPANESE
                .iter()
                .find(|(key, _)| *key == english)
                .map_or(english, |(_, japanese)| japanese),
        }
    }
}

const JAPANESE: &[(&str, &str)] = &[
    ("API key", "API キー"),
    ("Active", "アクティブ"),
    ("Agent", "エージェント"),
    ("Agents", "エージェント"),
    ("Attempt", "試行"),
    ("Author", "作成者"),
    ("Cancel", "キャンセル"),
    ("Charts", "チャート"),
    ("Config", "設定"),
    ("Configuration", "設定"),
    ("Copy", "コピー"),
    ("Crashed", "クラッシュ"),
    ("Created", "作成"),
    ("Duration", "実行時間"),
    ("Ended", "終了"),
    ("Failed", "失敗"),
    ("Files", "ファイル"),
    ("Final spec", "最終スペック"),
    ("Finished", "完了"),
    ("Follow", "追従"),
    ("Host", "ホスト"),
    ("Idle", "アイドル"),
    ("Item", "アイテム"),
    ("Job", "ジョブ"),
    ("Jobs", "ジョブ"),
    ("Killed", "強制終了"),
    ("Last contact", "最終通信"),
    ("Last success", "最後の成功"),
    ("Load", "負荷"),
    ("Log", "ログ"),
    ("Name", "名前"),
    ("Not active", "非アクティブ"),
    ("Output", "出力"),
    ("Password", "パスワード"),
    ("Paused", "一時停止中"),
    ("Pending", "開始待ち"),
    ("Position", "順番"),
    ("Preempted", "中断"),
    ("Preempting", "中断処理中"),
    ("Priority", "優先度"),
    ("Project", "プロジェクト"),
    ("Projects", "プロジェクト"),
    ("Queue", "キュー"),
    ("Queued", "キュー待ち"),
    ("Queues", "キュー"),
    ("Reason", "理由"),
    ("Retry", "再試行"),
    ("Running", "実行中"),
    ("Runs", "Run"),
    ("Settings", "設定"),
    ("Sign in", "サインイン"),
    ("Sign out", "サインアウト"),
    ("Size", "サイズ"),
    ("Started", "開始"),
    ("State", "状態"),
    ("Stop", "停止"),
    ("Submitted", "送信"),
    ("Summary", "サマリー"),
    ("Target", "ターゲットリソース"),
    ("Timeline", "タイムライン"),
    ("Type", "型"),
    ("Updated", "更新"),
    ("User", "ユーザー"),
    ("User name", "ユーザー名"),
    ("Value", "値"),
    ("Version", "バージョン"),
    ("Versions", "バージョン"),
    ("Waited", "待ち時間"),
    ("Waiting", "待機中"),
    ("critical", "最優先"),
    ("high", "高"),
    ("low", "低"),
    ("medium", "中"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_language_is_the_heaviest_of_ours() {
        for (header, language) in [
            (None, Language::English),
            (Some(""), Language::English),
            (Some("ja"), Language::Japanese),
            (Some("ja-JP,ja;q=0.9,en;q=0.8"), Language::Japanese),
            (Some("en-US,en;q=0.9,ja;q=0.8"), Language::English),
            (Some("de,ja;q=0.3"), Language::Japanese),
            (Some("ja;q=x,en;q=0.1"), Language::English),
        ] {
            assert_eq!(Language::preferred(header), language, "{header:?}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_free_of_duplicates() {
        assert!(JAPANESE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_word_without_a_translation_stays() {
        assert_eq!(Language::Japanese.word("Queue"), "キュー");
        assert_eq!(Language::Japanese.word("Launch"), "Launch");
        assert_eq!(Language::English.word("Queue"), "Queue");
    }
}
