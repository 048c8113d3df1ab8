//! The cut of a session's history: the records with which its new timeline begins. This code is
//! pure; the store writes the records when it is opened, before anything is served.

use super::{
    Cut, CutCause, FailureCode, FaultCode, HistoryCut, Record, Resumed, Session, TimelineName,
    TurnFailure, UnixMillis,
};

impl Session {
    /// Returns the records that begin a new timeline at the end of this session, whose later
    /// history was lost: the cut, and the end of the open turn and of its approvals. They must be
    /// appended together. None if the session is closed.
    ///
    /// The session is then parked until an operator resumes it. If it is faulted as well, the fault
    /// is its reason first, and ending the fault does not end the wait.
    pub fn cut(
        &self,
        timeline: TimelineName,
        cause: CutCause,
        detail: &str,
        at: UnixMillis,
    ) -> Vec<Record> {
        if self.alive().is_err() {
            return Vec::new();
        }
        let detail = HistoryCut::detail(detail);
        let failure = TurnFailure {
            code: FailureCode::HistoryCut,
            text: format!(
                "{}; the turn was open, and what it did outside may have happened, whether the log \
                 still shows it or not",
                cause.sentence(&detail),
            ),
        };
        // The cut comes first: no event of the new timeline may be on the old one.
        let mut records = vec![Record::Cut(Cut {
            timeline,
            previous: self.progress.timeline.name().cloned(),
            cause,
            detail,
            at,
        })];
        records.extend(self.end_open(failure, at));
        if self.progress.open.is_some() {
            // This fault is about the turn that has ended.
            let fault = self.progress.fault.as_ref();
            if fault.is_some_and(|fault| fault.code == FaultCode::KillsWorker) {
                records.push(Record::Resumed(Resumed { at }));
            }
        }
        records
    }
}
