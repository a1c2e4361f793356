//! The words of the pages, and sentences without names or numbers, in English and Japanese.
//!
//! The English text is the key; what is not in the table stays English.

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
    (
        "A key lets the command line and your jobs act as you. It is shown once.",
        "キーを使うと、コマンドラインやジョブがあなたとして動作します。表示は 1 回だけです。",
    ),
    ("API key", "API キー"),
    ("Acknowledged", "受領"),
    ("Active", "アクティブ"),
    ("Agent", "エージェント"),
    ("Agent heard from again", "エージェントとの通信再開"),
    ("Agent lost", "エージェントとの通信途絶"),
    ("Agents", "エージェント"),
    ("Asked to stop", "停止を要求"),
    (
        "Asked to stop; the run hears of it with its next report.",
        "停止を要求しました。Run には次の報告のときに伝わります。",
    ),
    (
        "Asked to stop; waiting for the job to end.",
        "停止を要求しました。ジョブの終了を待っています。",
    ),
    ("Attempt", "試行"),
    ("Author", "作成者"),
    ("Back in the queue", "キューに戻る"),
    ("Cancel", "キャンセル"),
    ("Charts", "チャート"),
    ("Config", "設定"),
    ("Configuration", "設定"),
    ("Copied", "コピーしました"),
    ("Copy", "コピー"),
    (
        "Copy the key now: it is not shown again.",
        "今すぐキーをコピーしてください。再表示はできません。",
    ),
    ("Crashed", "クラッシュ"),
    ("Create a queue", "キューを作成"),
    ("Created", "作成"),
    ("Duration", "実行時間"),
    ("Ended", "終了"),
    ("Exit code", "終了コード"),
    ("Failed", "失敗"),
    ("Files", "ファイル"),
    ("Final spec", "最終スペック"),
    ("Finished", "完了"),
    ("First steps", "はじめに"),
    ("Follow", "追従"),
    ("Heard from again", "通信再開"),
    ("Host", "ホスト"),
    ("I have stored it", "保存しました"),
    ("Idle", "アイドル"),
    ("Item", "アイテム"),
    (
        "Its process may have been killed, or lost its connection. If it is heard from again, it runs again.",
        "プロセスが強制終了されたか、接続が切れた可能性があります。通信が再開すると実行中に戻ります。",
    ),
    ("Job", "ジョブ"),
    ("Jobs", "ジョブ"),
    ("Killed", "強制終了"),
    ("Last contact", "最終通信"),
    ("Last success", "最後の成功"),
    ("Late report ignored", "遅れた報告を無視"),
    ("Launch a job", "ジョブを Launch"),
    ("Links", "リンク"),
    ("Load", "負荷"),
    ("Log", "ログ"),
    ("Log file", "ログファイル"),
    ("Make a key", "キーを作成"),
    ("Moved", "移動"),
    ("Name", "名前"),
    ("No job yet.", "ジョブはまだありません。"),
    ("No metric was logged yet.", "メトリクスはまだ記録されていません。"),
    ("No output was captured.", "出力はありません。"),
    (
        "No project yet. The first run makes one.",
        "プロジェクトはまだありません。最初の Run で作成されます。",
    ),
    ("No run yet.", "Run はまだありません。"),
    ("Not active", "非アクティブ"),
    (
        "Nothing was launched here yet.",
        "このキューではまだ何も Launch されていません。",
    ),
    ("Older runs", "以前の Run"),
    ("Open item", "アイテムを開く"),
    ("Open run", "Run を開く"),
    ("Or an API key", "または API キー"),
    ("Output", "出力"),
    ("Password", "パスワード"),
    (
        "Paste it where wandb login or slipway login asks for it.",
        "wandb login または slipway login で求められたら貼り付けてください。",
    ),
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
    ("Sign in with the key", "キーでサインイン"),
    ("Sign out", "サインアウト"),
    ("Size", "サイズ"),
    ("Start an agent", "エージェントを起動"),
    ("Start one", "起動するには"),
    ("Start recorded", "開始を記録"),
    ("Started", "開始"),
    ("Starting", "開始処理中"),
    ("State", "状態"),
    ("Stop", "停止"),
    ("Submitted", "送信"),
    ("Summary", "サマリー"),
    ("Taken", "取得"),
    ("Target", "ターゲットリソース"),
    ("The end of it. ", "末尾のみ。"),
    (
        "The end of the log below says more.",
        "詳しくは下のログの末尾を見てください。",
    ),
    ("The run printed nothing.", "出力はありません。"),
    (
        "The run stopped sending heartbeats.",
        "Run からのハートビートが途絶えました。",
    ),
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
    ("Waiting for the first line.", "最初の行を待っています。"),
    ("Warning", "警告"),
    ("Warning no longer applies", "警告は解消"),
    ("Whole log", "ログ全体"),
    ("Whole output", "出力全体"),
    ("critical", "最優先"),
    ("deleted", "削除済み"),
    ("draining", "新規受付停止中"),
    ("high", "高"),
    ("low", "低"),
    ("medium", "中"),
    ("not uploaded", "未アップロード"),
    ("polling", "待ち受け中"),
    ("prioritized", "優先順位付け"),
    ("running", "実行中"),
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
