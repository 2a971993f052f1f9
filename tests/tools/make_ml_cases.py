#!/usr/bin/env python3
"""Writes the test cases of classical machine learning: ops of `ai.onnx.ml`, and models that skl2onnx exports from
scikit-learn, with what ONNX Runtime gives for them.

    pip install onnxruntime==1.32.0 onnx==1.23.2 numpy scikit-learn==1.9.1 skl2onnx==1.20.0 pandas
    python3 tests/tools/make_ml_cases.py [FOLDER]

Into FOLDER, or a temporary one, go cases as `make_onnxruntime_ops.py` writes them; packed they are
`testdata/ml-cases.tar.xz`. Where a model gives maps, the case has the tensor of their values, in the order of keys.
"""

import os
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import make_onnxruntime_ops as ops

warnings.filterwarnings("ignore")
ops.ARCHIVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "testdata", "ml-cases.tar.xz")
CASES = {}
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]
floats = ops.floats


def plain_integers():
    """skl2onnx hands integers of NumPy on, of kinds that onnx does not take."""
    make = helper.make_attribute

    def made(key, value, *args, **options):
        if isinstance(value, list):
            value = [int(v) if isinstance(v, (np.integer, np.bool_, bool)) else v for v in value]
        return make(key, value, *args, **options)

    helper.make_attribute = made


def add(case, op, inputs, outputs=("y",), version=3, domain="ai.onnx.ml", **attributes):
    node = helper.make_node(op, list(inputs), list(outputs), name=case, domain=domain, **attributes)
    info = lambda name, v: helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(v.dtype) if v.dtype != object else TensorProto.STRING, v.shape)
    results = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], case, [info(name, v) for name, v in inputs.items()], results)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", version)]
    if domain == "com.microsoft":
        opsets.append(helper.make_opsetid(domain, 1))
    CASES[case] = (helper.make_model(graph, opset_imports=opsets, ir_version=10), inputs)


def text(*rows):
    return np.array(rows, dtype=object)


def features():
    x = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [-1.0, -3.0, -0.25]], np.float32)
    for norm in ["MAX", "L1", "L2"]:
        add(f"normalizer_{norm.lower()}", "Normalizer", {"x": x}, norm=norm)
    add("normalizer_f64", "Normalizer", {"x": x.astype(np.float64)}, norm="L2")
    add("normalizer_ints", "Normalizer", {"x": np.array([[3, 4], [0, 5]], np.int64)}, norm="L2")
    holes = np.array([[np.nan, 1.0, 2.0], [3.0, np.nan, np.nan]], np.float32)
    add("imputer_nan", "Imputer", {"x": holes}, imputed_value_floats=[7.0, 8.0, 9.0],
        replaced_value_float=float("nan"))
    add("imputer_one", "Imputer", {"x": x}, imputed_value_floats=[7.0], replaced_value_float=0.0)
    add("imputer_ints", "Imputer", {"x": np.array([[-1, 2], [3, -1]], np.int64)}, imputed_value_int64s=[5, 6],
        replaced_value_int64=-1)
    add("one_hot_ints", "OneHotEncoder", {"x": np.array([[3, 9], [5, 4]], np.int64)}, cats_int64s=[3, 4, 5])
    add("one_hot_floats", "OneHotEncoder", {"x": np.array([3.7, 5.0], np.float32)}, cats_int64s=[3, 4, 5], zeros=1)
    add("one_hot_strings", "OneHotEncoder", {"x": text(["a", "?"], ["c", "b"])}, cats_strings=["a", "b", "c"])
    add("one_hot_all_known", "OneHotEncoder", {"x": text(["a"], ["c"])}, cats_strings=["a", "b", "c"], zeros=0)
    add("vectorizer", "FeatureVectorizer", {"a": x, "b": np.array([[1], [2], [3]], np.float32)},
        inputdimensions=[2, 2])
    add("vectorizer_ints", "FeatureVectorizer", {"a": np.array([[1, 2], [3, 4]], np.int64)}, inputdimensions=[2])
    cats = {"cats_strings": ["x", "y", "z"], "cats_int64s": [10, 20, 30]}
    add("mapper_strings", "CategoryMapper", {"x": text("z", "q", "x")}, default_int64=-7, **cats)
    add("mapper_ints", "CategoryMapper", {"x": np.array([[20], [11]], np.int64)}, default_string="none", **cats)
    add("binarizer", "Binarizer", {"x": x}, threshold=-0.5)
    add("scaler", "Scaler", {"x": x}, offset=[0.5, 1.0, -1.0], scale=[2.0, 0.25, 1.5])
    add("extractor", "ArrayFeatureExtractor", {"x": x, "at": np.array([2, 0], np.int64)})
    add("labels", "LabelEncoder", {"x": text("b", "c")}, keys_strings=["a", "b"], values_int64s=[4, 5])


def linear():
    x = np.array([[-2.0, 1.0], [-0.3, 0.2], [0.9, 0.3], [0.7, -1.0], [2.0, 0.5]], np.float32)
    labels = {"classlabels_ints": [5, 7]}
    three = {"coefficients": [1.0, 0.5, -1.0, 0.25, 0.5, 2.0], "intercepts": [0.0, 0.1, 0.2]}
    for by in TRANSFORMS:
        add(f"linear_regressor_{by.lower()}", "LinearRegressor", {"x": x}, coefficients=[1.0, 0.5, -1.0, 0.25],
            intercepts=[0.3, 0.1], targets=2, post_transform=by)
        add(f"linear_binary_{by.lower()}", "LinearClassifier", {"x": x}, ("label", "scores"),
            coefficients=[1.0, -0.5], intercepts=[0.25], post_transform=by, **labels)
        add(f"linear_classes_{by.lower()}", "LinearClassifier", {"x": x}, ("label", "scores"), post_transform=by,
            classlabels_strings=["a", "b", "c"], **three)
    unit = np.array([[0.1], [0.3], [0.6], [0.95]], np.float32)
    add("linear_probit", "LinearRegressor", {"x": unit}, coefficients=[1.0], post_transform="PROBIT")
    add("linear_one_logistic", "LinearRegressor", {"x": unit}, coefficients=[1.0], post_transform="LOGISTIC")
    add("linear_other_intercepts", "LinearRegressor", {"x": x}, coefficients=[1.0, 2.0], intercepts=[1.0, 2.0])
    add("linear_ints", "LinearClassifier", {"x": np.array([[1, -2], [3, 4]], np.int64)}, ("label", "scores"),
        classlabels_ints=[1, 2, 3], **three)
    add("linear_f64", "LinearClassifier", {"x": x.astype(np.float64)}, ("label", "scores"), coefficients=[1.0, -0.5],
        intercepts=[0.25], **labels)
    for metric in ["euclidean", "sqeuclidean"]:
        for dtype in [np.float32, np.float64]:
            add(f"cdist_{metric}_{np.dtype(dtype).name}", "CDist",
                {"a": floats("a", 3, 9).astype(dtype), "b": floats("b", 4, 9).astype(dtype)},
                domain="com.microsoft", metric=metric)


def machines():
    x = floats("x", 5, 3)
    kernels = {"linear": ("LINEAR", []), "poly": ("POLY", [0.5, 1.0, 3.0]), "rbf": ("RBF", [0.4, 0.0, 3.0]),
               "sigmoid": ("SIGMOID", [0.3, 0.1, 3.0]), "square": ("POLY", [0.5, 0.0, 2.0])}
    for name, (kind, parameters) in kernels.items():
        kernel = {"kernel_type": kind, "kernel_params": parameters or [0.0, 0.0, 0.0]}
        vectors = floats("v", 4, 3).ravel().tolist()
        add(f"svm_regressor_{name}", "SVMRegressor", {"x": x}, coefficients=[1.0, -0.5, 0.25, 2.0],
            support_vectors=vectors, n_supports=4, rho=[0.1], **kernel)
        two = {"coefficients": [1.0, -0.5, 0.25, -0.75], "support_vectors": vectors, "vectors_per_class": [2, 2],
               "rho": [0.1], "classlabels_ints": [5, 7], **kernel}
        three = {"coefficients": [1.0, -0.5, 0.25, -0.75, 0.3, -0.2, 0.6, 1.0], "support_vectors": vectors,
                 "vectors_per_class": [2, 1, 1], "rho": [0.1, -0.2, 0.05], "classlabels_strings": ["a", "b", "c"],
                 **kernel}
        outputs = ("label", "scores")
        add(f"svm_two_{name}", "SVMClassifier", {"x": x}, outputs, **two)
        add(f"svm_two_sure_{name}", "SVMClassifier", {"x": x}, outputs, prob_a=[-1.5], prob_b=[0.1], **two)
        add(f"svm_three_{name}", "SVMClassifier", {"x": x}, outputs, **three)
        add(f"svm_three_sure_{name}", "SVMClassifier", {"x": x}, outputs, prob_a=[-1.5, -2.0, -1.0],
            prob_b=[0.1, 0.0, -0.2], **three)
        if name == "rbf":
            for by in TRANSFORMS[1:]:
                add(f"svm_two_{by.lower()}", "SVMClassifier", {"x": x}, outputs, post_transform=by, **two)
                add(f"svm_three_{by.lower()}", "SVMClassifier", {"x": x}, outputs, post_transform=by, **three)
    plain = {"kernel_params": [0.0, 0.0, 0.0], "rho": [0.1]}
    add("svm_one_class", "SVMRegressor", {"x": x}, coefficients=[1.0, -0.5], support_vectors=floats("v", 6).tolist(),
        n_supports=2, one_class=1, **plain)
    add("svm_regressor_no_vectors", "SVMRegressor", {"x": x}, coefficients=[1.0, -0.5, 0.3], **plain)
    for case, coefficients, labels in [("two", [1.0, -0.5, 0.3, -1.0, 0.5, -0.3], [5, 7]),
                                       ("positive", [1.0, 0.5, 0.3, 0.2, 0.1, 0.9], [5, 7]),
                                       ("three", [1.0, -0.5, 0.3, -1.0, 0.5, -0.3, 0.1, 0.2, 0.3], [5, 6, 7])]:
        for by in TRANSFORMS:
            add(f"svm_linear_{case}_{by.lower()}", "SVMClassifier", {"x": x}, ("label", "scores"),
                coefficients=coefficients, classlabels_ints=labels, post_transform=by, **plain)


def tree(modes=("BRANCH_LEQ",) * 3, values=(0.0, -1.0, 1.0), features=(0, 0, 0), tree=0):
    """A tree of three tests and four leaves, which are nodes 3 to 6."""
    return {"nodes_treeids": [tree] * 7, "nodes_nodeids": list(range(7)),
            "nodes_featureids": [*features, 0, 0, 0, 0], "nodes_values": [*values, 0.0, 0.0, 0.0, 0.0],
            "nodes_modes": [*modes] + ["LEAF"] * 4, "nodes_truenodeids": [1, 3, 5, 0, 0, 0, 0],
            "nodes_falsenodeids": [2, 4, 6, 0, 0, 0, 0]}


def both(a, b):
    return {k: a[k] + b[k] for k in a}


def weighed(kind, leaves, tree=0):
    listed = [(3 + i, c, w) for i, leaf in enumerate(leaves) for c, w in leaf]
    return {f"{kind}_treeids": [tree] * len(listed), f"{kind}_nodeids": [n for n, _, _ in listed],
            f"{kind}_ids": [c for _, c, _ in listed], f"{kind}_weights": [float(w) for _, _, w in listed]}


def as_tensors(attributes):
    """The same attributes in 64 bits."""
    wide = dict(attributes)
    for name in ["nodes_values", "target_weights", "class_weights", "base_values"]:
        if name in wide:
            values = np.array(wide.pop(name), np.float64)
            wide[f"{name}_as_tensor"] = numpy_helper.from_array(values, f"{name}_as_tensor")
    return wide


def trees():
    x = np.array([[-2.0], [-1.0], [-0.3], [0.0], [0.3], [1.0], [2.0]], np.float32)
    out = ("label", "scores")
    leaves = {
        "positive": [[(1, 0.2)], [(1, 0.6)], [(1, 0.9)], [(1, 0.4)]],
        "mixed": [[(1, -0.2)], [(1, 0.6)], [(1, -0.9)], [(1, 0.4)]],
        "first": [[(0, 0.2)], [(0, 0.6)], [(0, -0.9)], [(0, 0.4)]],
        "first_positive": [[(0, 0.2)], [(0, 0.6)], [(0, 0.9)], [(0, 0.4)]],
        "both": [[(0, 0.2), (1, 0.8)], [(0, 0.6), (1, 0.4)], [(0, -0.3), (1, 0.1)], [(0, 0.5), (1, -0.5)]],
        "some": [[(0, 0.2)], [(1, 0.4)], [(0, -0.3), (1, 0.1)], []],
    }
    for name, of in leaves.items():
        for base in [[], [0.3], [0.3, 0.4]]:
            for by in TRANSFORMS:
                if name == "some" and len(base) == 1 or not base and by == "SOFTMAX_ZERO" and name == "some":
                    continue  # what ONNX Runtime gives is whatever was in memory
                if name == "some" and len(base) == 2 and by == "SOFTMAX_ZERO":
                    continue  # 0 / 0
                extra = {"base_values": base} if base else {}
                add(f"trees_{name}_{len(base)}_{by.lower()}", "TreeEnsembleClassifier", {"x": x}, out,
                    classlabels_int64s=[0, 1], post_transform=by, **tree(), **weighed("class", of), **extra)
    add("trees_labels", "TreeEnsembleClassifier", {"x": x}, out, classlabels_int64s=[5, 7], **tree(),
        **weighed("class", leaves["positive"]))
    add("trees_strings", "TreeEnsembleClassifier", {"x": x}, out, classlabels_strings=["no", "yes"], **tree(),
        **weighed("class", leaves["both"]))
    three = [[(0, 0.2), (1, 0.8)], [(0, -0.6), (2, -0.4)], [(1, -0.3)], [(2, 0.5)]]
    for by in TRANSFORMS:
        add(f"trees_three_{by.lower()}", "TreeEnsembleClassifier", {"x": x}, out, post_transform=by,
            classlabels_strings=["a", "b", "c"], **tree(), **weighed("class", three))
        add(f"trees_three_base_{by.lower()}", "TreeEnsembleClassifier", {"x": x}, out, post_transform=by,
            classlabels_int64s=[5, 6, 7], base_values=[0.3, 0.4, 0.5], **tree(), **weighed("class", three))
    add("trees_one_class", "TreeEnsembleClassifier", {"x": x}, out, classlabels_int64s=[5], post_transform="LOGISTIC",
        **tree(), **weighed("class", leaves["first"]))
    for dtype in [np.float64, np.int64, np.int32]:
        add(f"trees_classes_{np.dtype(dtype).name}", "TreeEnsembleClassifier", {"x": x.astype(dtype)}, out,
            classlabels_int64s=[5, 6, 7], **tree(), **weighed("class", three))
    add("trees_classes_wide", "TreeEnsembleClassifier", {"x": x.astype(np.float64) + 1e-12}, out,
        classlabels_int64s=[5, 6, 7], **as_tensors({**tree(), **weighed("class", three)}))

    one = [[(0, 1.5)], [(0, -2.25)], [(0, 0.1)], [(0, 4.0)]]
    several = [[(0, 1.5), (1, 2.0)], [(1, -2.25)], [(0, 0.1)], [(0, 4.0), (1, 1.0), (0, 0.5)]]
    holes = np.concatenate([x, [[np.nan]], [[np.inf]], [[-np.inf]]]).astype(np.float32)
    for mode in ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"]:
        same = tree([f"BRANCH_{mode}"] * 3)
        add(f"trees_{mode.lower()}", "TreeEnsembleRegressor", {"x": holes}, n_targets=1, **same,
            **weighed("target", one))
        add(f"trees_{mode.lower()}_missing", "TreeEnsembleRegressor", {"x": holes}, n_targets=1, **same,
            nodes_missing_value_tracks_true=[1, 0, 1, 0, 0, 0, 0], **weighed("target", one))
    mixed = tree(["BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"])
    add("trees_modes", "TreeEnsembleRegressor", {"x": holes}, n_targets=2, **mixed, **weighed("target", several))
    two = {**both(tree(), tree(["BRANCH_LT"] * 3, (0.5, -0.3, 1.5), tree=4)),
           **both(weighed("target", several), weighed("target", several[::-1], 4))}
    for way in ["SUM", "AVERAGE", "MIN", "MAX"]:
        add(f"trees_{way.lower()}", "TreeEnsembleRegressor", {"x": x}, n_targets=2, aggregate_function=way, **two)
        add(f"trees_{way.lower()}_base", "TreeEnsembleRegressor", {"x": x}, n_targets=2, aggregate_function=way,
            base_values=[0.5, -0.25], **two)
        add(f"trees_{way.lower()}_one", "TreeEnsembleRegressor", {"x": x}, n_targets=1, aggregate_function=way,
            base_values=[0.5], **both(tree(), tree(values=(0.5, -0.3, 1.5), tree=1)),
            **both(weighed("target", one), weighed("target", one[::-1], 1)))
    for by in TRANSFORMS:
        add(f"trees_targets_{by.lower()}", "TreeEnsembleRegressor", {"x": x}, n_targets=2, post_transform=by, **two)
    unit = [[(0, 0.1)], [(0, 0.3)], [(0, 0.6)], [(0, 0.95)]]
    add("trees_probit", "TreeEnsembleRegressor", {"x": x}, n_targets=1, post_transform="PROBIT", **tree(),
        **weighed("target", unit))
    add("trees_wide", "TreeEnsembleRegressor", {"x": x.astype(np.float64) + 1e-12}, n_targets=2, **as_tensors(two))
    ensembles()


def ensembles():
    """The form of version 5."""
    for dtype in [np.float32, np.float64]:
        tensor = lambda name, v, of=dtype: numpy_helper.from_array(np.array(v, of), name)
        x = np.array([[v, w] for v in [-1.0, 0.0, 1.0, 2.0, 3.0, 40.0, np.nan] for w in [0.5, 1.5]], dtype)
        attributes = {
            "tree_roots": [0, 3], "nodes_featureids": [0, 1, 0, 1], "nodes_modes": tensor("m", [6, 0, 6, 3], np.uint8),
            "nodes_splits": tensor("s", [0.0, 1.0, 0.0, 1.0]), "nodes_truenodeids": [1, 0, 2, 3],
            "nodes_falsenodeids": [2, 1, 3, 4], "nodes_trueleafs": [0, 1, 1, 1], "nodes_falseleafs": [0, 1, 1, 1],
            "nodes_missing_value_tracks_true": [0, 0, 1, 0],
            "membership_values": tensor("v", [1.0, 2.0, 40.0, np.nan, 3.0, np.nan]),
            "leaf_targetids": [0, 1, 0, 1, 1], "leaf_weights": tensor("w", [1.0, 10.0, 100.0, 1000.0, 7.0]),
            "n_targets": 2}
        for number, way in enumerate(["average", "sum", "min", "max"]):
            add(f"ensemble_{np.dtype(dtype).name}_{way}", "TreeEnsemble", {"x": x}, version=5,
                aggregate_function=number, **attributes)
        # ONNX Runtime takes the standard's 1 for LOGISTIC and its 2 for SOFTMAX.
        add(f"ensemble_{np.dtype(dtype).name}_softmax_zero", "TreeEnsemble", {"x": x[4:6]}, version=5,
            post_transform=3, **attributes)


def pipelines():
    """What skl2onnx makes of models of scikit-learn."""
    from sklearn import (cluster, compose, decomposition, discriminant_analysis, ensemble, feature_selection,
                         gaussian_process, impute, linear_model, mixture, naive_bayes, neighbors, neural_network,
                         pipeline, preprocessing, svm, tree)
    from skl2onnx import to_onnx

    random = np.random.default_rng(3)
    x = random.standard_normal((150, 6)).astype(np.float32)
    two = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64)
    three = np.digitize(x[:, 0] - x[:, 3], [-0.7, 0.7])
    names = np.array(["ant", "bee", "cat"])[three]
    y = (x[:, 0] * 2 + np.sin(x[:, 1])).astype(np.float32)
    targets = np.stack([y, x[:, 2] - y], axis=1)
    shown = x[:7]

    def case(name, model, fed, *fit, **options):
        model.fit(*fit)
        fed = fed if isinstance(fed, dict) else {"X": fed}
        first = fed if len(fed) > 1 else next(iter(fed.values()))
        if isinstance(first, dict):
            from skl2onnx.common.data_types import FloatTensorType, StringTensorType
            kinds = [(k, (StringTensorType if v.dtype == object else FloatTensorType)([None, v.shape[1]]))
                     for k, v in fed.items()]
            CASES[name] = (to_onnx(model, initial_types=kinds, **options), fed)
        else:
            CASES[name] = (to_onnx(model, first[:1], **options), fed)

    def classifier(name, model, fit, labels, kind=None, **options):
        """With the scores as a tensor, and as maps."""
        tensors = {} if isinstance(model, svm.LinearSVC) else {"options": {id(model): {"zipmap": False}}}
        case(f"skl_{name}", model, shown, fit, labels, **tensors, **options)
        if kind:
            case(f"skl_{name}_maps", model, shown, fit, labels, **options)

    few = {"n_estimators": 6, "max_depth": 3, "random_state": 0}
    classifier("boosting_two", ensemble.GradientBoostingClassifier(**few), x, two, "maps")
    classifier("boosting_three", ensemble.GradientBoostingClassifier(**few), x, names, "maps")
    classifier("forest_two", ensemble.RandomForestClassifier(**few), x, two, "maps")
    classifier("forest_three", ensemble.RandomForestClassifier(**few), x, three)
    classifier("extra_trees", ensemble.ExtraTreesClassifier(**few), x, names)
    classifier("tree", tree.DecisionTreeClassifier(max_depth=3), x, two)
    classifier("ada", ensemble.AdaBoostClassifier(n_estimators=4, random_state=0), x, three)
    classifier("bagging", ensemble.BaggingClassifier(n_estimators=3, random_state=0), x, two)
    hist = {"max_iter": 5, "max_depth": 3, "random_state": 0}
    classifier("hist_two", ensemble.HistGradientBoostingClassifier(**hist), x, two, "maps")
    classifier("hist_three", ensemble.HistGradientBoostingClassifier(**hist), x, three)
    classifier("logistic_two", linear_model.LogisticRegression(), x, two, "maps")
    classifier("logistic_three", linear_model.LogisticRegression(), x, names, "maps")
    classifier("sgd", linear_model.SGDClassifier(loss="log_loss", random_state=0), x, three)
    classifier("svc_two", svm.SVC(probability=True, random_state=0, C=0.5), x[:60], two[:60], "maps")
    classifier("svc_three", svm.SVC(probability=True, random_state=0), x[:60], names[:60], "maps")
    classifier("svc_poly", svm.SVC(kernel="poly", degree=2, probability=True, random_state=0), x[:60], three[:60])
    classifier("nu_svc", svm.NuSVC(probability=True, random_state=0), x[:60], two[:60])
    classifier("svc_sigmoid", svm.SVC(kernel="sigmoid", random_state=0), x[:60], three[:60])
    classifier("linear_svc", svm.LinearSVC(), x, three)
    layers = {"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 50}
    classifier("mlp", neural_network.MLPClassifier(**layers), x, three, "maps")
    classifier("gaussian_bayes", naive_bayes.GaussianNB(), x, names, "maps")
    classifier("bernoulli_bayes", naive_bayes.BernoulliNB(), x, three)
    classifier("multinomial_bayes", naive_bayes.MultinomialNB(), np.abs(x), three)
    classifier("neighbors", neighbors.KNeighborsClassifier(3), x[:60], three[:60], "maps")
    classifier("lda", discriminant_analysis.LinearDiscriminantAnalysis(), x, three)
    classifier("qda", discriminant_analysis.QuadraticDiscriminantAnalysis(), x, three)
    vote = ensemble.VotingClassifier([("a", linear_model.LogisticRegression()), ("b", naive_bayes.GaussianNB())],
                                     voting="soft", flatten_transform=False)
    classifier("voting", vote, x, three)
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    classifier("scaled_logistic", scaled, x, two, "maps")
    reduced = pipeline.make_pipeline(preprocessing.MinMaxScaler(), decomposition.PCA(3),
                                     feature_selection.SelectKBest(k=2), linear_model.LogisticRegression())
    classifier("reduced", reduced, x, three)

    for name, model in {
        "boosting": ensemble.GradientBoostingRegressor(**few),
        "forest": ensemble.RandomForestRegressor(**few),
        "hist": ensemble.HistGradientBoostingRegressor(**hist),
        "ada": ensemble.AdaBoostRegressor(n_estimators=4, random_state=0),
        "linear": linear_model.LinearRegression(),
        "lasso": linear_model.Lasso(0.1),
        "poisson": linear_model.PoissonRegressor(),
        "svr": svm.SVR(),
        "neighbors": neighbors.KNeighborsRegressor(3),
        "mlp": neural_network.MLPRegressor(**layers),
        "gaussian_process": gaussian_process.GaussianProcessRegressor(),
    }.items():
        small = name in ["svr", "neighbors", "gaussian_process"]
        n = 40 if small else len(x)
        case(f"skl_{name}_regressor", model, shown, x[:n], np.abs(y[:n]) if name == "poisson" else y[:n])
    case("skl_trees_targets", ensemble.ExtraTreesRegressor(**few), shown, x, targets)
    case("skl_linear_targets", linear_model.Ridge(), shown, x, targets)

    case("skl_isolation", ensemble.IsolationForest(n_estimators=5, max_samples=32, random_state=0), shown, x,
         target_opset={"": 15, "ai.onnx.ml": 3})
    case("skl_one_class", svm.OneClassSVM(nu=0.1), shown, x[:60])
    case("skl_outliers", neighbors.LocalOutlierFactor(5, novelty=True), shown, x[:40])
    case("skl_k_means", cluster.KMeans(3, n_init=1, random_state=0), shown, x)
    case("skl_mixture", mixture.GaussianMixture(2, random_state=0), shown, x)
    case("skl_pca", decomposition.PCA(3, whiten=True), shown, x)
    case("skl_svd", decomposition.TruncatedSVD(3, random_state=0), shown, x)
    case("skl_polynomial", preprocessing.PolynomialFeatures(2), shown, x)
    case("skl_bins", preprocessing.KBinsDiscretizer(4, encode="onehot-dense"), shown, x)
    case("skl_robust", preprocessing.RobustScaler(), shown, x)
    case("skl_normalizer", preprocessing.Normalizer("l1"), shown, x)
    case("skl_binarizer", preprocessing.Binarizer(threshold=0.2), shown, x)
    case("skl_power", preprocessing.PowerTransformer(), shown, x)
    holes = x.copy()
    holes[::3, 1] = np.nan
    case("skl_imputer", impute.SimpleImputer(strategy="median"), holes[:7], holes)
    case("skl_hist_holes", ensemble.HistGradientBoostingRegressor(**hist), holes[:7], holes, y)

    words = random.choice(["red", "green", "blue"], (150, 1)).astype(object)
    sizes = random.choice(["s", "m", "l"], (150, 1)).astype(object)
    case("skl_one_hot", preprocessing.OneHotEncoder(handle_unknown="ignore"),
         {"X": np.array([["red"], ["plum"], ["blue"]], dtype=object)}, words)
    case("skl_ordinal", preprocessing.OrdinalEncoder(), {"X": words[:5]}, words)
    import pandas
    frame = pandas.DataFrame({"word": words[:, 0], "size": sizes[:, 0], "a": x[:, 0], "b": x[:, 1]})
    columns = compose.ColumnTransformer([
        ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["word", "size"]),
        ("numbers", pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["a", "b"])])
    mixed = {"word": words[:7], "size": sizes[:7], "a": x[:7, :1], "b": x[:7, 1:2]}
    for name, last in [("logistic", linear_model.LogisticRegression()),
                       ("boosting", ensemble.GradientBoostingClassifier(**few))]:
        case(f"skl_columns_{name}", pipeline.Pipeline([("columns", columns), ("last", last)]), mixed, frame, two)


def unzipped(value):
    """The values of maps as the tensor that they were made of."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([[row[key] for key in value[0]] for row in value], np.float32)
    return value


def write(folder, case, model, fed):
    """Runs the model and writes it with its inputs and results, whose types are now known."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    results = [unzipped(r) for r in session.run(names, fed)]
    for r in results:
        assert isinstance(r, np.ndarray), (case, type(r))
        assert r.dtype == object or np.isfinite(r).all(), (case, results)
    del model.graph.output[:]
    for name, r in zip(names, results):
        dtype = TensorProto.STRING if r.dtype == object else helper.np_dtype_to_tensor_dtype(r.dtype)
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, [None] * r.ndim))
    data = os.path.join(folder, case, "test_data_set_0")
    os.makedirs(data)
    onnx.save(model, os.path.join(folder, case, "model.onnx"))
    for kind, values in [("input", list(fed.items())), ("output", list(zip(names, results)))]:
        for i, (name, value) in enumerate(values):
            with open(os.path.join(data, f"{kind}_{i}.pb"), "wb") as f:
                f.write(numpy_helper.from_array(value, name).SerializeToString())


def main():
    plain_integers()
    for group in [features, linear, machines, trees, pipelines]:
        group()
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
    for case, (model, fed) in CASES.items():
        write(folder, case, model, fed)
    ops.pack(folder)
    print(f"{len(CASES)} cases, {os.path.getsize(ops.ARCHIVE)} bytes")


if __name__ == "__main__":
    main()
