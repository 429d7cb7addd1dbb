# English. Every message stands in ko.ftl, too.

list-last = { $first } and { $last }
unit-s = { $count } s
unit-min = { $count } min
unit-h = { $count } h
unit-d = { $count } d
when-today = Today { $clock } UTC ({ $ago } ago)
when-earlier = { $date } { $clock } UTC ({ $ago } ago)

# Titles: what happened, then where.
moved-up = { $reading } moved up by about { $amount }
moved-down = { $reading } moved down by about { $amount }
scattered = { $reading } became more scattered
stuck = { $reading } got stuck
high-tail = { $reading } reaches unusually high values
low-tail = { $reading } reaches unusually low values
missing = { $reading } has missing values
unseen = { $reading } has values never seen in training
more-of = The model answers “{ $category }” more often
more-of-input = { $reading } is “{ $category }” more often
category-others = one of the rarer ones
category-never-seen = never seen in training
title = { $what } { $where }
title-others = { $what } { $where }, with { $n ->
    [one] 1 other reading
   *[other] { $n } other readings
  }
unusual-combination = Readings no longer go together as they did in training
at-cohorts = at { $cohorts }
on-label = on devices with { $label } { $values }
on-all = across the fleet
on-device = on { $device }
on-devices = on { $n ->
    [one] 1 device
   *[other] { $n } devices
  }

subtitle = Model “{ $model }” is now judging readings it has rarely seen. Its answers may be less reliable there.
subtitle-output = Model “{ $model }” answers differently from how it answered in training.
subtitle-resolved = The readings are back to what the model in use was trained on.

# Five facts.
fact-what = What changed
fact-where = Where
fact-since = Since when
fact-sure = How sure are we
fact-cause = Likely cause
what-middle = { $reading }: the middle value went from { $before } to { $after }. { $share } of readings are { $side } normal range (it was { $was }).
side-above = above the highest
side-below = below the lowest
what-spread = { $reading }: the spread (standard deviation) went from { $before } to { $after }.
what-missing = { $reading }: { $share } of readings are missing (it was { $was }).
what-category = The answer “{ $category }” makes up { $share } of all answers (it was { $was }).
what-category-input = { $reading } is “{ $category }” in { $share } of readings (it was { $was }).
what-unseen = { $reading }: { $share } of readings are values that training never had.
what-combination = Each reading by itself may look normal, but their combinations are unusual: readings that moved together in training do not any more.
what-others = Also changed: { $others }.
where-cohorts = { $affected } of { $reporting } devices at { $cohorts }. { $rest }
where-label = { $affected } of { $reporting } devices with { $label } { $cohorts }. { $rest }
where-devices-none = No other device is affected.
where-others-none = No other site is affected.
where-others = Elsewhere { $n ->
    [one] 1 device is affected, too.
   *[other] { $n } devices are affected, too.
  }
where-all = { $affected } of { $reporting } devices, at every site.
where-devices = { $affected } of { $reporting } devices: { $devices }.
where-offline = { $n ->
    [one] 1 affected device is offline.
   *[other] { $n } affected devices are offline.
  }
since-between = Between { $from } and { $to } UTC ({ $ago } ago).
since-resolved = { $since } Resolved { $resolved }.
sure-very = Very sure. { $readings } readings were compared; a change this large by chance alone would be expected less than once in 10 years of this fleet.
sure-yes = Sure. { $readings } readings were compared; a change this large by chance alone would be expected less than once a year in this fleet.
sure-probably = Probably. { $readings } readings were compared; a change this large by chance alone would be expected less than once a month in this fleet.
sure-not-yet = Not sure yet – still watching. { $readings } readings were compared.
sure-few-rows = We cannot say how sure: the baseline has only { $rows } rows.
cause-label = All affected devices share one thing that the others do not: { $label } { $value }. This is a correlation, not proof.
cause-label-most = Most affected devices share one thing that most others do not: { $label } { $value }. This is a correlation, not proof.
cause-none = We found nothing that only these devices share.
cause-share = { $label } { $value } ({ $bad } of { $affected } affected devices, { $good } of { $others } others)
cause-also = Next in line: { $causes }.
cause-everywhere = Every site is affected, so the cause is likely something they all share: the season, the product, or an update.

# Actions.
action-rollout = Roll out { $model } to { $n ->
    [one] this device…
   *[other] these { $n } devices…
  }
action-rollout-none = Roll out a better model…
why-no-release = There is no other release yet. Train one on data that includes these readings, then: driftline models add
why-running = Rollout { $rollout } is on its way.
why-resolved = This problem is resolved.
why-all-have-it = These devices run it already.
action-acknowledge = Acknowledge
why-acknowledged = Somebody has seen it already.

# Charts.
shift-title = Where the values moved
shift-caption = Grey: training data. Blue line: readings since { $since } on the affected devices.
shift-sentence = { $reading }: the middle value went from { $before } in training to { $after } now.
shift-missing = There is no picture of this change.
ranges-title = Before, each range held about { $expected } of readings
ranges-caption = Bars beyond twice that are orange.
shares-title = Share of each value
shares-caption = The lines are what it was in training; bars beyond twice that are orange.
timeline-title = How different, over time
timeline-caption = { $reading }. 0 = the same as training. The dashed line is only a guide: alarms come from a detector that keeps a false-alarm budget.
timeline-sentence = { $reading } over time, as a distance from training between 0 and 1: { $parts }.
timeline-part = { $name } is at { $value } now
timeline-alert = clearly different: { $level }
ranked-title = Which readings changed most
ranked-caption = Distance from training, 0 to 1. How much the model relies on each reading is not known.

accuracy-title = How often the model was right
accuracy-caption = Measured where the true answer is known, else estimated from the model's own scores. An estimate cannot tell when a model that is sure has become wrong.
accuracy-measured = measured on { $readings } labelled readings
accuracy-estimated = estimated, no labels: { $low } to { $high }
accuracy-before = { $model }, before the change
accuracy-since = { $model }, since the change
accuracy-now = { $model }
figure-precision = precision
figure-recall = recall
figure-f1 = F1
figure-auroc = AUROC

performance-measured = { $model } was right on { $share } of { $readings } readings whose true answer is known.
performance-beside = Estimated from the scores of all { $samples } readings: { $value } ({ $low } to { $high }).
performance-estimated = { $model } is right on an estimated { $value } of readings ({ $low } to { $high }). No true answers are known.
performance-training-rows = The calibration comes from the training rows, so this is likely too high.
performance-no-calibration = How often { $model } is right cannot be estimated: the bundle has no calibration (give --label).
performance-numbers = { $model } gives numbers, not classes: how often it is right is not defined.
too-few = not enough data yet ({ $n } of { $needed })
performance-too-few = { $model }: { $few }.
performance-nothing = { $model } has not judged any readings yet.

expert-statistic = Statistic
expert-statistic-value = mixture e-Shiryaev-Roberts detector on score sums, { $family } { $direction }
expert-evidence = Evidence (natural logarithm)
expert-threshold = Threshold (natural logarithm)
expert-budget = False alarms tolerated per month, whole fleet
expert-effect = Largest mean score, in standard deviations
expert-js = Jensen-Shannon distance, base 2
expert-psi = PSI, natural logarithm, Jeffreys
expert-ks = Kolmogorov-Smirnov D, at least – at most
expert-w1 = Wasserstein-1 on cells
expert-n = Readings compared
expert-baseline = Baseline
expert-baseline-value = { $release }, { $rows } rows

# Activity and events.
incident-opened = Opened: { $title }.
incident-spread = { $n ->
    [one] 1 device is affected now.
   *[other] { $n } devices are affected now.
  }
incident-acknowledged = Acknowledged.
incident-resolved = Resolved: { $title }.
incident-reopened = Not over, opened again: { $title }.
event-incident-updated = Now: { $title }.
event-model-added = Model { $id } was added.
event-device-failed = { $device } could not install the new model.

# Overview.
headline-normal = Everything looks normal.
headline-problems = { $n ->
    [one] 1 problem needs a decision.
   *[other] { $n } problems need a decision.
  }
headline-fixing = { $n ->
    [one] 1 problem is being fixed.
   *[other] { $n } problems are being fixed.
  }
headline-learning = driftline is still learning what normal looks like.
headline-empty = Nothing to watch yet.
headline-stalled = No readings for { $ago }.
summary-normal = { $reporting } of { $n ->
    [one] 1 device reports readings like those the models were trained on.
   *[other] { $n } devices report readings like those the models were trained on.
  }
summary-problems = { $drifting } of { $n } devices send readings that look different from the data the model was trained on. { $normal } look normal.
summary-learning = { $n ->
    [one] 1 device has connected; its first windows are on their way.
   *[other] { $n } devices have connected; their first windows are on their way.
  }
summary-few = The device that has sent the most readings: { $few }.
summary-empty = Make a bundle with “driftline baselines create”, add it with “driftline models add”, and start an agent with “driftline-agent run”. Or look around first: “driftline demo”.
summary-stalled = The last window came { $when }. Look at the broker and at the agents' logs.
heat-caption = Share of devices that differ. ● marks cells in an open problem.

empty-incidents = No problems.
empty-rollouts = No rollouts yet.
empty-models = No models yet: driftline baselines create, then driftline models add.
empty-devices = No device has connected yet.

# Rollouts.
plan = { $n ->
    [one] 1 device gets { $model }{ $who }
   *[other] { $n } devices get { $model }{ $who }
  }, in stages of { $stages }; each stage is watched for { $soak }. It stops by itself if more than { $limit }% of a stage fail or if devices drift on the new release.
plan-incident = {" "}for { $incident }
rollout-title = { $model } → { $n ->
    [one] 1 device
   *[other] { $n } devices
  }
rollout-running = Stage { $stage } of { $stages } is running. { $installed } of { $n } devices in this stage have the new model; { $failed } failed. It stops by itself if more than { $limit }% fail.
rollout-watching = Stage { $stage } of { $stages } is installed on { $installed } of { $n } devices and is being watched for another { $left }.
rollout-paused-user = Paused by somebody in stage { $stage } of { $stages }. Nothing more is installed until you resume.
rollout-paused-failures = Stopped by itself in stage { $stage } of { $stages }: { $failed } of { $executed } devices failed (limit { $limit }%). Nothing more is installed.
rollout-paused-drift = Stopped by itself in stage { $stage } of { $stages }: { $n ->
    [one] 1 device drifts on the new model.
   *[other] { $n } devices drift on the new model.
  } Nothing more is installed.
rollout-aborting = Being taken back: { $n ->
    [one] 1 device is still returning.
   *[other] { $n } devices are still returning.
  }
rollout-aborted = Taken back. Every device runs what it ran before.
rollout-done = Done. { $installed } of { $n } devices have the new model.
rollout-done-failures = Done. { $installed } of { $n } devices have the new model; { $failed } failed and kept the old one.
state-running = Running
state-watching = Watching
state-paused = Paused
state-aborting = Being taken back
state-aborted = Taken back
state-done = Done
state-done-failures = Done with failures
button-pause = Pause
button-resume = Resume
button-abort = Abort and return to { $from }…
abort-text = { $installed } devices that already have { $to } will return to { $from }. { $progress } in progress will return, too. { $waiting } not started will keep { $from }.
abort-button = Abort and return
why-over = This rollout is over.
why-not-paused = It is not paused.
why-paused = It is paused already.
stage-waiting = Waiting · { $n ->
    [one] 1 device
   *[other] { $n } devices
  }
stage-running = { $installed } of { $n } · { $failed } failed
stage-watching = Installed · being watched
stage-done = Done · watch passed
stage-stopped = Stopped · { $installed } of { $n }, { $failed } failed
compare-title = New model against the old one, same hours
act-created = Created.
act-stage = Stage { $stage } started: { $n ->
    [one] 1 device.
   *[other] { $n } devices.
  }
act-failed = { $device } failed: { $reason }
act-paused = Paused.
act-resumed = Resumed.
act-aborted = Abort started.
act-done = Finished.
event-evidence-asked = { $samples } raw samples of { $device } were asked for: { $reason }
event-evidence-came = { $rows } raw samples of { $device } are here.
event-evidence-refused = { $device } gives out no raw samples: { $said }.
event-evidence-expired = { $device } did not answer the request for raw samples within a day.
note-clocks-behind = { $n ->
    [one] The clock of { $device } is { $time } behind: its windows are
   *[other] The clocks of { $n } devices are off, that of { $device } is { $time } behind: their windows are
  } dated by the collector's.
note-clocks-ahead = { $n ->
    [one] The clock of { $device } is { $time } ahead: its windows are
   *[other] The clocks of { $n } devices are off, that of { $device } is { $time } ahead: their windows are
  } dated by the collector's.
note-no-room = Devices without room for their backlog have merged { $merged } windows into wider ones and given up { $evicted } since they started.
empty-evidence = Nobody has asked for raw samples. They stay on the devices.
event-rollout-created = Rollout { $id } was created: { $title }.
event-rollout-stage = Rollout { $id }: { $sentence }
mark-rollout = { $release } stage { $stage }
