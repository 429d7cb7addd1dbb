"""Makes small ONNX models the way people export them, with the answers onnxruntime gives.

usage: corpus.py --out DIR

For each model DIR gets NAME.onnx and NAME.json: {"group", "what", "inputs": rows, "output_name": name, "outputs": rows}. A row is one sample, all inputs one after the other; its
outputs are onnxruntime's, one sample at a time on one thread, of the output that Driftline reads: probabilities, else the first with fractions,
else the first of whole numbers. "inputs" is null for models that take text. tests/it/corpus.rs compares.
"""

import argparse
import json
import os
import pathlib
import sys
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    linear_model,
    mixture,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.impute import SimpleImputer
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType

warnings.filterwarnings("ignore")
ROWS = 24
FEATURES = 6
random = np.random.default_rng(7)
X = random.normal(size=(400, FEATURES)).astype(np.float32)
SCORE = X @ np.array([1.0, -1.5, 0.7, 0.0, 0.4, 0.2]) + 0.5 * X[:, 0] * X[:, 1] + 0.3 * random.normal(size=400)
Y2 = (SCORE > 0).astype(np.int64)
Y3 = np.digitize(SCORE, [-0.8, 0.8]).astype(np.int64)
NAMES = np.array(["idle", "normal", "worn"])[Y3]
REAL = SCORE.astype(np.float32)
TWO = np.stack([SCORE, -2 * SCORE + X[:, 2]], axis=1).astype(np.float32)
HOLES = np.where(random.random(X.shape) < 0.1, np.nan, X).astype(np.float32)
TEST = random.normal(size=(ROWS, FEATURES)).astype(np.float32)

made, failed = [], []


def session(model):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


KINDS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def chosen(model, outputs):
    """The output that Driftline reads, and whether it is a ZipMap's."""
    zipped = {node.output[0]: node for node in model.graph.node if node.op_type == "ZipMap"}
    fractions = [o for o in outputs if o.name in zipped or o.type in ("tensor(float)", "tensor(double)")]
    whole = [o for o in outputs if o.type in ("tensor(int64)", "tensor(int32)", "tensor(uint8)", "tensor(int8)")]
    preferred = [o for o in fractions if o.name == "probabilities"]
    output = (preferred or fractions or whole or [None])[0]
    return output, zipped.get(output.name) if output else None


def answers(model, rows):
    """Rows of inputs as flat numbers, and what onnxruntime makes of each."""
    run = session(model)
    output, zipmap = chosen(model, run.get_outputs())
    inputs, outputs = [], []
    if any(i.type not in KINDS for i in run.get_inputs()) or output is None:
        return None, output and output.name, None
    for row in rows:
        row = np.asarray(row, dtype=np.float32).ravel()
        feed, at = {}, 0
        for i in run.get_inputs():
            shape = [1] + [d for d in i.shape[1:]] if len(i.shape) > 1 else [i.shape[0] or len(row)]
            shape = [d if isinstance(d, int) else len(row) - at for d in shape]
            size = int(np.prod(shape))
            feed[i.name] = row[at : at + size].reshape(shape).astype(KINDS[i.type])
            at += size
        (value,) = run.run([output.name], feed)
        if zipmap is not None:
            # In the order of the ZipMap's own labels, not in that of the map.
            labels = next(helper.get_attribute_value(a) for a in zipmap.attribute if a.name.startswith("classlabels"))
            value = [value[0][label.decode() if isinstance(label, bytes) else label] for label in labels]
        inputs.append([None if np.isnan(v) else float(v) for v in row])
        outputs.append([float(v) for v in np.asarray(value, dtype=np.float64).ravel()])
    return inputs, output.name, outputs


def steady(model):
    """The same bytes in every run: converters name graphs by chance, stamp the time and list operator sets in the order of a hash."""
    model.graph.name = "graph"
    sets = sorted(model.opset_import, key=lambda o: o.domain)
    del model.opset_import[:]
    model.opset_import.extend(sets)
    kept = [p for p in model.metadata_props if p.key not in ("train_finish_time", "model_guid")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return model


def save(out, name, group, what, model, rows):
    try:
        model = steady(model() if callable(model) else model)
        inputs, output, outputs = answers(model, rows)
    except Exception as error:  # what a converter or onnxruntime itself cannot do is no failure of Driftline's
        failed.append(name)
        print(f"could not be made: {name}: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
        return
    (out / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    case = {"group": group, "what": what, "inputs": inputs, "output_name": output, "outputs": outputs}
    (out / f"{name}.json").write_text(json.dumps(case, separators=(",", ":")))
    made.append(name)
    print(name)


def scikit(out):
    def classifier(name, estimator, y=Y3, what=None, x=X, rows=TEST, zipmaps=(True, False)):
        for zipmap in zipmaps:
            def model(zipmap=zipmap):
                fitted = estimator.fit(x, y)
                options = {id(fitted): {"zipmap": zipmap}} if zipmaps != (None,) else None
                return to_onnx(fitted, x[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})

            phrase = f"{what or type(estimator).__name__}, {len(set(y))} classes, {'with' if zipmap else 'without'} ZipMap"
            save(out, f"sk-{name}-{'zipmap' if zipmap else 'plain'}", "scikit-learn classifiers", phrase, model, rows)

    def other(name, estimator, y=REAL, group="scikit-learn regressors", what=None, x=X, rows=TEST, kind=FloatTensorType, **more):
        def model():
            fitted = estimator.fit(x) if y is None else estimator.fit(x, y)
            shape = [("X", kind([None, x.shape[1]]))]
            return to_onnx(fitted, initial_types=shape, target_opset={"": 18, "ai.onnx.ml": 3}, **more)

        save(out, f"sk-{name}", group, what or type(estimator).__name__, model, rows)

    forest = {"n_estimators": 50, "max_depth": 6, "random_state": 0}
    few = {"n_estimators": 10, "random_state": 0}
    classifier("logistic-2", linear_model.LogisticRegression(), Y2)
    classifier("logistic-3", linear_model.LogisticRegression())
    classifier("logistic-names", linear_model.LogisticRegression(), NAMES, what="LogisticRegression, class names")
    classifier("sgd", linear_model.SGDClassifier(loss="log_loss", random_state=0))
    classifier("linear-svc", svm.LinearSVC(random_state=0), zipmaps=(None,))
    classifier("ridge-classifier", linear_model.RidgeClassifier(), zipmaps=(None,))
    classifier("svc-2", svm.SVC(probability=True, random_state=0), Y2)
    classifier("svc-3", svm.SVC(probability=True, random_state=0))
    classifier("svc-names", svm.SVC(probability=True, random_state=0), NAMES, what="SVC, class names")
    classifier("svc-scores-2", svm.SVC(kernel="poly"), Y2, zipmaps=(False,))
    classifier("svc-scores-3", svm.SVC(kernel="sigmoid"), zipmaps=(False,))
    classifier("nu-svc", svm.NuSVC(probability=True, random_state=0), Y2)
    classifier("tree", tree.DecisionTreeClassifier(max_depth=5, random_state=0))
    classifier("forest-2", ensemble.RandomForestClassifier(**forest), Y2)
    classifier("forest-3", ensemble.RandomForestClassifier(**forest))
    classifier("forest-names", ensemble.RandomForestClassifier(**forest), NAMES, what="RandomForestClassifier, class names")
    classifier("extra-trees", ensemble.ExtraTreesClassifier(**forest))
    classifier("gradient-2", ensemble.GradientBoostingClassifier(**few), Y2)
    classifier("gradient-3", ensemble.GradientBoostingClassifier(**few))
    classifier("hist-2", ensemble.HistGradientBoostingClassifier(max_iter=20, max_depth=4, random_state=0), Y2)
    classifier("hist-3", ensemble.HistGradientBoostingClassifier(max_iter=20, max_depth=4, random_state=0))
    classifier("hist-missing", ensemble.HistGradientBoostingClassifier(max_iter=20, max_depth=4, random_state=0), x=HOLES, rows=HOLES[:ROWS], zipmaps=(False,), what="HistGradientBoostingClassifier, missing values")
    classifier("forest-int", ensemble.RandomForestClassifier(**few), x=np.round(X * 3).astype(np.int64), rows=np.round(TEST * 3), what="RandomForestClassifier, int64 input")
    classifier("logistic-double", linear_model.LogisticRegression(), x=X.astype(np.float64), zipmaps=(False,), what="LogisticRegression, double input")  # onnxruntime's ZipMap takes no doubles
    classifier("forest-double", ensemble.RandomForestClassifier(**few), x=X.astype(np.float64), zipmaps=(False,), what="RandomForestClassifier, double input")
    classifier("adaboost", ensemble.AdaBoostClassifier(**few))
    classifier("bagging", ensemble.BaggingClassifier(**few))
    classifier("neighbours", neighbors.KNeighborsClassifier())
    classifier("gaussian-nb", naive_bayes.GaussianNB())
    classifier("bernoulli-nb", naive_bayes.BernoulliNB())
    classifier("mlp", neural_network.MLPClassifier((16,), max_iter=80, random_state=0))
    classifier("lda", discriminant_analysis.LinearDiscriminantAnalysis())
    classifier("qda", discriminant_analysis.QuadraticDiscriminantAnalysis())
    parts = [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=4, random_state=0))]
    classifier("voting", ensemble.VotingClassifier(parts, voting="soft", flatten_transform=False))
    classifier("voting-hard", ensemble.VotingClassifier(parts, voting="hard", flatten_transform=False), zipmaps=(False,))
    classifier("stacking", ensemble.StackingClassifier(parts))
    classifier("calibrated", calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2))
    classifier("one-vs-rest", multiclass.OneVsRestClassifier(linear_model.LogisticRegression()))

    other("linear", linear_model.LinearRegression())
    other("ridge", linear_model.Ridge())
    other("lasso", linear_model.Lasso(0.1))
    other("elastic-net", linear_model.ElasticNet(0.1))
    other("huber", linear_model.HuberRegressor())
    for kernel in ("rbf", "poly", "sigmoid", "linear"):
        other(f"svr-{kernel}", svm.SVR(kernel=kernel), what=f"SVR, {kernel}")
    other("tree-regressor", tree.DecisionTreeRegressor(max_depth=5, random_state=0))
    other("forest-regressor", ensemble.RandomForestRegressor(**forest))
    other("extra-trees-regressor", ensemble.ExtraTreesRegressor(**forest))
    other("gradient-regressor", ensemble.GradientBoostingRegressor(**few))
    other("hist-regressor", ensemble.HistGradientBoostingRegressor(max_iter=20, max_depth=4, random_state=0))
    other("adaboost-regressor", ensemble.AdaBoostRegressor(**few))
    other("neighbours-regressor", neighbors.KNeighborsRegressor())
    other("mlp-regressor", neural_network.MLPRegressor(hidden_layer_sizes=(16,), max_iter=80, random_state=0))
    other("gaussian-process", gaussian_process.GaussianProcessRegressor(alpha=0.1).fit(X[:60], REAL[:60]), x=X[:60], y=REAL[:60])
    other("pls", cross_decomposition.PLSRegression(2))
    other("forest-two", ensemble.RandomForestRegressor(**few), y=TWO, what="RandomForestRegressor, two targets")
    other("linear-two", linear_model.LinearRegression(), y=TWO, what="LinearRegression, two targets")
    other("linear-double", linear_model.LinearRegression(), kind=DoubleTensorType, what="LinearRegression, double input")
    whole = np.round(X * 3)
    other("tree-int", tree.DecisionTreeRegressor(max_depth=5, random_state=0), x=whole, rows=np.round(TEST * 3), kind=Int64TensorType, what="DecisionTreeRegressor, int64 input")

    def pipe(name, *steps, x=X, rows=TEST):
        estimator = pipeline.make_pipeline(*steps, linear_model.LinearRegression())
        other(f"pipe-{name}", estimator, group="scikit-learn pipelines", what=" + ".join(type(s).__name__ for s in steps), x=x, rows=rows)

    pipe("standard", preprocessing.StandardScaler())
    pipe("minmax", preprocessing.MinMaxScaler())
    pipe("robust", preprocessing.RobustScaler())
    pipe("maxabs", preprocessing.MaxAbsScaler())
    pipe("normalizer-l1", preprocessing.Normalizer("l1"))
    pipe("normalizer-l2", preprocessing.Normalizer("l2"))
    pipe("normalizer-max", preprocessing.Normalizer("max"))
    pipe("imputer", SimpleImputer(), x=HOLES, rows=HOLES[:ROWS])
    pipe("imputer-standard", SimpleImputer(strategy="median"), preprocessing.StandardScaler(), x=HOLES, rows=HOLES[:ROWS])
    pipe("polynomial", preprocessing.PolynomialFeatures(2))
    pipe("pca", decomposition.PCA(3))
    pipe("bins", preprocessing.KBinsDiscretizer(5, encode="ordinal"))
    pipe("bins-onehot", preprocessing.KBinsDiscretizer(4, encode="onehot-dense"))
    pipe("binarizer", preprocessing.Binarizer(threshold=0.3))
    pipe("power", preprocessing.PowerTransformer())
    pipe("quantile", preprocessing.QuantileTransformer(n_quantiles=20))
    pipe("kbest", feature_selection.SelectKBest(k=3))
    pipe("svd", decomposition.TruncatedSVD(3, random_state=0))
    pipe("function", preprocessing.FunctionTransformer())
    digits = np.abs(np.round(X * 2)) % 4
    pipe("onehot-float", preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), x=digits, rows=digits[:ROWS])
    pipe("ordinal", preprocessing.OrdinalEncoder(), x=digits, rows=digits[:ROWS])
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(**few))
    for zipmap in (True, False):
        def model(zipmap=zipmap):
            return to_onnx(scaled.fit(X, Y3), X[:1], options={id(scaled): {"zipmap": zipmap}}, target_opset={"": 18, "ai.onnx.ml": 3})
        save(out, f"sk-pipe-forest-{'zipmap' if zipmap else 'plain'}", "scikit-learn pipelines", f"StandardScaler + RandomForestClassifier, {'with' if zipmap else 'without'} ZipMap", model, TEST)

    # As from a pandas table: an input per column.
    def columns(text):
        import pandas

        frame = pandas.DataFrame({"temp": X[:, 0], "load": X[:, 1], "mode": (np.array(["a", "b", "c"]) if text else np.array([10, 20, 30]))[Y3]})
        encode = compose.ColumnTransformer([("n", preprocessing.StandardScaler(), ["temp", "load"]), ("c", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["mode"])])
        fitted = pipeline.make_pipeline(encode, linear_model.LogisticRegression()).fit(frame, Y2)
        kind = StringTensorType if text else Int64TensorType
        shape = [("temp", FloatTensorType([None, 1])), ("load", FloatTensorType([None, 1])), ("mode", kind([None, 1]))]
        return to_onnx(fitted, initial_types=shape, options={id(fitted): {"zipmap": False}}, target_opset={"": 18, "ai.onnx.ml": 3})

    table = np.stack([TEST[:, 0], TEST[:, 1], np.array([10, 20, 30])[np.arange(ROWS) % 3]], axis=1)
    save(out, "sk-columns", "scikit-learn pipelines", "ColumnTransformer, an input per column", lambda: columns(False), table)
    save(out, "sk-columns-text", "scikit-learn pipelines", "ColumnTransformer with a text column", lambda: columns(True), table)

    odd = "scikit-learn outliers and clusters"
    other("isolation-forest", ensemble.IsolationForest(n_estimators=20, random_state=0), y=None, group=odd)
    other("one-class-svm", svm.OneClassSVM(), y=None, group=odd)
    other("local-outlier", neighbors.LocalOutlierFactor(novelty=True), y=None, group=odd)
    other("kmeans", cluster.KMeans(4, random_state=0, n_init=3), y=None, group=odd)
    other("gaussian-mixture", mixture.GaussianMixture(3, random_state=0), y=None, group=odd)


def boosted(out):
    import lightgbm
    import xgboost
    from onnxmltools import convert_lightgbm, convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as Floats

    shape = [("input", Floats([None, FEATURES]))]
    small = {"n_estimators": 20, "max_depth": 4, "random_state": 0}
    for classes, y in ((2, Y2), (3, Y3)):
        for zipmap in (True, False):
            save(out, f"lgbm-{classes}-{'zipmap' if zipmap else 'plain'}", "LightGBM", f"LGBMClassifier, {classes} classes, {'with' if zipmap else 'without'} ZipMap",
                 lambda: convert_lightgbm(lightgbm.LGBMClassifier(verbose=-1, n_jobs=1, **small).fit(X, y), initial_types=shape, zipmap=zipmap, target_opset=15), TEST)
        save(out, f"xgb-{classes}", "XGBoost", f"XGBClassifier, {classes} classes",
             lambda: convert_xgboost(xgboost.XGBClassifier(n_jobs=1, **small).fit(X, y), initial_types=shape, target_opset=15), TEST)
    save(out, "lgbm-regressor", "LightGBM", "LGBMRegressor",
         lambda: convert_lightgbm(lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **small).fit(X, REAL), initial_types=shape, target_opset=15), TEST)
    category = np.concatenate([X[:, :5], np.round(np.abs(X[:, 5:]) * 4) % 5], axis=1)
    save(out, "lgbm-categories", "LightGBM", "LGBMRegressor with a column of categories",
         lambda: convert_lightgbm(lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **small).fit(category, REAL, categorical_feature=[5]), initial_types=shape, target_opset=15), category[:ROWS])
    save(out, "lgbm-missing", "LightGBM", "LGBMRegressor, missing values",
         lambda: convert_lightgbm(lightgbm.LGBMRegressor(verbose=-1, n_jobs=1, **small).fit(HOLES, REAL), initial_types=shape, target_opset=15), HOLES[:ROWS])
    save(out, "xgb-regressor", "XGBoost", "XGBRegressor", lambda: convert_xgboost(xgboost.XGBRegressor(n_jobs=1, **small).fit(X, REAL), initial_types=shape, target_opset=15), TEST)
    save(out, "xgb-missing", "XGBoost", "XGBRegressor, missing values", lambda: convert_xgboost(xgboost.XGBRegressor(n_jobs=1, **small).fit(HOLES, REAL), initial_types=shape, target_opset=15), HOLES[:ROWS])

    def cat(estimator, y):
        import catboost

        path = out / "catboost.tmp"
        getattr(catboost, estimator)(iterations=20, depth=4, random_seed=0, verbose=False, thread_count=1, allow_writing_files=False).fit(X, y).save_model(str(path), format="onnx")
        model = onnx.load(path)
        path.unlink()
        return model

    save(out, "catboost-2", "CatBoost", "CatBoostClassifier, 2 classes", lambda: cat("CatBoostClassifier", Y2), TEST)
    save(out, "catboost-3", "CatBoost", "CatBoostClassifier, 3 classes", lambda: cat("CatBoostClassifier", Y3), TEST)
    save(out, "catboost-regressor", "CatBoost", "CatBoostRegressor", lambda: cat("CatBoostRegressor", REAL), TEST)


class Net:
    """A graph as exporters of neural networks write it, with seeded weights."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, *shape, scale=None, value=None, kind=np.float32):
        name = f"w{len(self.weights)}"
        if value is None:
            fan = int(np.prod(shape[1:])) or 1
            value = self.random.normal(size=shape) * (scale or 1 / np.sqrt(fan))
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def ints(self, *values):
        return self.weight(value=list(values), kind=np.int64)

    def add(self, op, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"t{self.count}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"{op}_{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x, inside, outside):
        return self.add("Gemm", x, self.weight(outside, inside), self.weight(outside, scale=0.1), transB=1)

    def norm(self, x, n):
        scale, bias, mean = (self.weight(n, scale=0.1) for _ in range(3))
        return self.add("BatchNormalization", x, scale, bias, mean, self.weight(value=0.5 + self.random.random(n)))

    def conv(self, x, inside, outside, kernel, group=1, **attributes):
        return self.add("Conv", x, self.weight(outside, inside // group, *kernel), self.weight(outside, scale=0.1), group=group, kernel_shape=kernel, **attributes)

    def model(self, shape, outputs, opset=17, batch="N", ir=8):
        nodes = list(self.nodes)
        infos = []
        for name, value, kind in outputs:
            nodes.append(helper.make_node("Identity", [value], [name], name=f"out_{name}"))
            infos.append(helper.make_tensor_value_info(name, kind, None))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])
        graph = helper.make_graph(nodes, "net", [x], infos, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir, producer_name="corpus")


def rows_of(*shape, seed=3):
    rows = np.random.default_rng(seed).normal(size=(ROWS, *shape)).astype(np.float32)
    # Eighths are short in JSON and exact in float32: images stay below 500 kB.
    return np.round(rows * 8) / np.float32(8) if np.prod(shape) > 1000 else rows


def networks(out):
    group = "neural networks"
    floats = TensorProto.FLOAT

    def put(name, what, net, value, shape, **more):
        save(out, f"nn-{name}", group, what, net.model(shape, [("y", value, floats)], **more), rows_of(*shape))

    def mlp(net, act="Relu", **attributes):
        h = net.add(act, net.linear("x", 20, 32), **attributes)
        h = net.add(act, net.linear(h, 32, 16), **attributes)
        return net.add("Softmax", net.linear(h, 16, 4), axis=1)

    for batch in ("N", 1):
        net = Net(1)
        put(f"mlp-batch-{batch}", f"MLP, batch {batch}", net, mlp(net), [20], batch=batch)
    for opset in (9, 11, 13, 15, 18, 21):
        net = Net(2)
        put(f"mlp-opset-{opset}", f"MLP, opset {opset}", net, mlp(net), [20], opset=opset, ir=10 if opset > 18 else 7)
    for act, attributes, opset in (
        ("Tanh", {}, 17), ("Sigmoid", {}, 17), ("LeakyRelu", {"alpha": 0.1}, 17), ("Elu", {}, 17), ("Selu", {}, 17), ("HardSwish", {}, 17), ("HardSigmoid", {}, 17),
        ("Softplus", {}, 17), ("Gelu", {}, 20), ("Mish", {}, 18), ("Celu", {}, 17), ("ThresholdedRelu", {}, 17),
    ):
        net = Net(3)
        put(f"mlp-{act.lower()}", f"MLP, {act}", net, mlp(net, act, **attributes), [20], opset=opset, ir=9)
    net = Net(4)
    h = net.add("Dropout", net.add("Relu", net.norm(net.linear("x", 20, 32), 32)))
    put("mlp-batchnorm", "MLP, BatchNormalization and Dropout", net, net.linear(h, 32, 3), [20])
    net = Net(5)
    h = net.add("MatMul", "x", net.weight(20, 32))
    h = net.add("Add", h, net.weight(32))
    put("mlp-matmul", "MLP of MatMul and Add", net, net.add("LogSoftmax", net.add("MatMul", net.add("Relu", h), net.weight(32, 5)), axis=-1), [20])

    for channels, length in ((1, 128), (3, 100)):
        net = Net(6)
        h = net.add("Relu", net.norm(net.conv("x", channels, 8, [7], pads=[3, 3], strides=[2]), 8))
        h = net.add("MaxPool", h, kernel_shape=[2], strides=[2])
        h = net.add("Relu", net.conv(h, 8, 16, [5], pads=[2, 2]))
        h = net.add("Flatten", net.add("GlobalAveragePool", h), axis=1)
        put(f"cnn1d-{channels}x{length}", f"1D-CNN over {channels} × {length}", net, net.add("Softmax", net.linear(h, 16, 4), axis=1), [channels, length])
    net = Net(7)
    h = net.add("Relu", net.conv("x", 2, 8, [3], dilations=[4], pads=[8, 0]))
    h = net.add("Relu", net.conv(h, 8, 8, [3], dilations=[8], pads=[16, 0]))
    put("tcn", "temporal convolution with dilations", net, net.linear(net.add("ReduceMean", h, axes=[2], keepdims=0), 8, 2), [2, 64])

    def recurrent(kind, gates, directions=1, hidden=12, **attributes):
        net = Net(8)
        x = net.add("Transpose", "x", perm=[1, 0, 2])
        w = net.weight(directions, gates * hidden, 4)
        r = net.weight(directions, gates * hidden, hidden)
        b = net.weight(directions, 2 * gates * hidden, scale=0.1)
        names = net.add(kind, x, w, r, b, outputs=3 if kind == "LSTM" else 2, hidden_size=hidden, **attributes)
        # [steps, directions, batch, hidden] to the last step of each sample.
        h = net.add("Reshape", net.add("Transpose", names[0], perm=[2, 0, 1, 3]), net.ints(1, 32, directions * hidden))
        h = net.add("Gather", h, net.weight(value=31, kind=np.int64), axis=1)
        return net, net.add("Softmax", net.linear(h, directions * hidden, 3), axis=1)

    for name, kind, gates, directions, more in (
        ("lstm", "LSTM", 4, 1, {}), ("lstm-two", "LSTM", 4, 2, {"direction": "bidirectional"}), ("gru", "GRU", 3, 1, {"linear_before_reset": 1}),
        ("gru-plain", "GRU", 3, 1, {}), ("rnn", "RNN", 1, 1, {}),
    ):
        net, y = recurrent(kind, gates, directions, **more)
        put(name, f"{kind}{' in both directions' if directions == 2 else ''} over 32 × 4", net, y, [32, 4])

    def relu6(net, x):
        return net.add("Clip", x, net.weight(value=0.0), net.weight(value=6.0))

    net = Net(9)
    h = relu6(net, net.norm(net.conv("x", 3, 8, [3, 3], pads=[1, 1, 1, 1], strides=[2, 2]), 8))
    for stride in (1, 2):
        wide = relu6(net, net.norm(net.conv(h, 8, 24, [1, 1]), 24))
        deep = relu6(net, net.norm(net.conv(wide, 24, 24, [3, 3], group=24, pads=[1, 1, 1, 1], strides=[stride, stride]), 24))
        low = net.norm(net.conv(deep, 24, 8, [1, 1]), 8)
        h = net.add("Add", h, low) if stride == 1 else low
    h = net.add("Flatten", net.add("GlobalAveragePool", h), axis=1)
    put("mobilenet", "MobileNet v2 blocks over 3 × 32 × 32", net, net.add("Softmax", net.linear(h, 8, 5), axis=1), [3, 32, 32])
    net = Net(10)
    h = net.add("MaxPool", net.add("Relu", net.conv("x", 3, 8, [5, 5], pads=[2, 2, 2, 2])), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inner = net.conv(net.add("Relu", net.conv(h, 8, 8, [3, 3], pads=[1, 1, 1, 1])), 8, 8, [3, 3], pads=[1, 1, 1, 1])
    h = net.add("Relu", net.add("Add", h, inner))
    h = net.add("AveragePool", h, kernel_shape=[2, 2], strides=[2, 2])
    put("resnet", "residual block over 3 × 24 × 24", net, net.linear(net.add("Flatten", h, axis=1), 8 * 6 * 6, 4), [3, 24, 24])
    net = Net(11)
    h = net.add("Relu", net.conv("x", 1, 4, [3, 3], pads=[1, 1, 1, 1], strides=[2, 2]))
    h = net.add("ConvTranspose", h, net.weight(4, 1, 2, 2), kernel_shape=[2, 2], strides=[2, 2])
    put("autoencoder-image", "convolutional autoencoder over 1 × 16 × 16", net, net.add("Sigmoid", h), [1, 16, 16])
    net = Net(12)
    h = net.add("Relu", net.linear("x", 20, 6))
    put("autoencoder", "autoencoder", net, net.linear(h, 6, 20), [20])
    net = Net(13)
    h = net.add("Resize", "x", "", net.weight(value=[1, 1, 2, 2]), mode="nearest")
    put("resize", "Resize and Conv", net, net.linear(net.add("Flatten", net.add("GlobalMaxPool", net.conv(h, 2, 4, [3, 3])), axis=1), 4, 2), [2, 8, 8])

    def attention(net, x, wide=16):
        q, k, v = (net.add("MatMul", x, net.weight(wide, wide)) for _ in range(3))
        scores = net.add("Div", net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1])), net.weight(value=np.sqrt(wide)))
        return net.add("MatMul", net.add("Softmax", scores, axis=-1), v)

    net = Net(14)
    h = net.add("LayerNormalization", net.add("Add", "x", attention(net, "x")), net.weight(16), net.weight(16), axis=-1)
    ff = net.add("MatMul", net.add("Relu", net.add("MatMul", h, net.weight(16, 32))), net.weight(32, 16))
    h = net.add("LayerNormalization", net.add("Add", h, ff), net.weight(16), net.weight(16), axis=-1)
    put("transformer", "transformer block over 12 × 16", net, net.linear(net.add("ReduceMean", h, axes=[1], keepdims=0), 16, 3), [12, 16])
    net = Net(15)
    weights = net.add("Softmax", net.add("MatMul", "x", net.weight(16, 1)), axis=1)
    put("attention-pooling", "attention pooling over 12 × 16", net, net.linear(net.add("ReduceSum", net.add("Mul", "x", weights), net.ints(1), keepdims=0), 16, 3), [12, 16])
    net = Net(16)
    a, b = net.add("Split", "x", net.ints(8, 12), outputs=2, axis=1)
    h = net.add("Concat", net.add("Sin", a), net.add("Cos", b), net.add("Slice", "x", net.ints(2), net.ints(6), net.ints(1)), axis=1)
    put("slices", "Split, Slice and Concat", net, net.linear(net.add("Pow", h, net.weight(value=2.0)), 24, 2), [20])
    net = Net(17)
    h = net.add("Where", net.add("Greater", "x", net.weight(value=0.0)), "x", net.add("Mul", "x", net.weight(value=0.1)))
    put("where", "Where and Greater", net, net.add("Sqrt", net.add("Abs", net.linear(h, 20, 3))), [20])
    net = Net(18)
    h = net.add("Unsqueeze", net.add("TopK", "x", net.ints(5), outputs=2, axis=1)[0], net.ints(1))
    put("topk", "TopK and Unsqueeze", net, net.add("Squeeze", net.add("Exp", h), net.ints(1)), [20])
    net = Net(19)
    x = net.add("Pad", "x", net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.weight(value=0.0))
    h = net.add("PRelu", net.add("InstanceNormalization", net.conv(x, 3, 6, [3, 3]), net.weight(6), net.weight(6)), net.weight(6, 1, 1))
    put("instance-norm", "Pad, InstanceNormalization and PRelu", net, net.linear(net.add("Flatten", net.add("GlobalAveragePool", h), axis=1), 6, 2), [3, 12, 12])
    net = Net(20)
    scores = net.add("Softmax", net.linear("x", 20, 4), axis=1)
    save(out, "nn-argmax", group, "MLP that gives the class alone", net.model([20], [("label", net.add("ArgMax", scores, axis=1, keepdims=0), TensorProto.INT64)]), rows_of(20))
    net = Net(21)
    inner = net.add("Relu", net.linear("x", 20, 8))
    scores = net.add("Softmax", net.linear(inner, 8, 3), axis=1)
    save(out, "nn-embedding", group, "probabilities and an embedding", net.model([20], [("embedding", inner, floats), ("probabilities", scores, floats)]), rows_of(20))
    net = Net(22)
    seen = net.add("Flatten", net.add("GlobalAveragePool", net.add("Relu", net.conv("x", 1, 8, [3, 3]))), axis=1)
    scores = net.add("Softmax", net.linear(seen, 8, 3), axis=1)
    save(out, "nn-camera", group, "CNN over 16 × 16 pixels that also gives its embedding", net.model([1, 16, 16], [("probabilities", scores, floats), ("embedding", seen, floats)]), rows_of(1, 16, 16))


class Calibration:
    def __init__(self, rows):
        self.rows = iter([{"x": row[None]} for row in rows])

    def get_next(self):
        return next(self.rows, None)


def quantised(out):
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    group = "quantised by onnxruntime"
    source, target = out / "float.tmp", out / "int8.tmp"

    def networks():
        net = Net(30)
        h = net.add("Relu", net.linear("x", 20, 32))
        yield "mlp", [20], net.model([20], [("y", net.add("Softmax", net.linear(h, 32, 4), axis=1), TensorProto.FLOAT)], opset=15)
        net = Net(31)
        h = net.add("Relu", net.conv("x", 1, 8, [3, 3], pads=[1, 1, 1, 1]))
        h = net.add("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2])
        h = net.add("Flatten", h, axis=1)
        yield "cnn", [1, 8, 8], net.model([1, 8, 8], [("y", net.linear(h, 8 * 4 * 4, 3), TensorProto.FLOAT)], opset=15)

    for name, shape, model in networks():
        rows = rows_of(*shape)
        onnx.save(model, source)

        def dynamic(kind):
            # Seven bits of weight: with eight, onnxruntime's sums overflow on processors without VNNI, and its answers depend on the machine.
            quantize_dynamic(source, target, weight_type=kind, reduce_range=kind == QuantType.QInt8)
            return onnx.load(target)

        def static(layout, activation, weight, per_channel=False):
            quantize_static(source, target, Calibration(rows_of(*shape, seed=9)), quant_format=layout, activation_type=activation, weight_type=weight, per_channel=per_channel, reduce_range=True)
            return onnx.load(target)

        save(out, f"int8-{name}-dynamic", group, f"{name}, dynamic, int8", lambda: dynamic(QuantType.QInt8), rows)
        save(out, f"int8-{name}-dynamic-u8", group, f"{name}, dynamic, uint8", lambda: dynamic(QuantType.QUInt8), rows)
        for layout, text in ((QuantFormat.QDQ, "qdq"), (QuantFormat.QOperator, "qoperator")):
            save(out, f"int8-{name}-{text}", group, f"{name}, {text}, int8", lambda: static(layout, QuantType.QInt8, QuantType.QInt8), rows)
            save(out, f"int8-{name}-{text}-u8", group, f"{name}, {text}, uint8 activations", lambda: static(layout, QuantType.QUInt8, QuantType.QInt8), rows)
        save(out, f"int8-{name}-qdq-channel", group, f"{name}, qdq, int8 per channel", lambda: static(QuantFormat.QDQ, QuantType.QInt8, QuantType.QInt8, True), rows)
    for path in (source, target):
        path.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for make in (scikit, boosted, networks, quantised):
        make(out)
    print(f"{len(made)} models; {len(failed)} could not be made: {', '.join(failed) or 'none'}")
    return 0 if len(made) >= 80 else 1


if __name__ == "__main__":
    sys.exit(main())
